//! Where a server comes from: the four ways, and the order in which they are tried.

pub(crate) mod address;
pub(crate) mod apt;
pub(crate) mod container;
mod local;
mod packages;
mod product;
mod ubuntu;

use std::fmt;

use crate::chosen;
use crate::error::{Result, SupportError, Unavailable};
use crate::installation::Installation;
use crate::spec::ServerSpec;

/// The variable that allows only some of the ways.
const ONLY: &str = "CHANGELING_SERVERS";

/// A way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Given by an address in the environment; shared with others.
    Address,
    /// A container of the image that `compose.yaml` names.
    Container,
    /// Programs installed on the machine.
    Local,
    /// Packages of Debian or Ubuntu, unpacked into the cache directory.
    Packages,
}

impl SourceKind {
    const ORDER: [Self; 4] = [Self::Address, Self::Container, Self::Local, Self::Packages];

    fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Container => "container",
            Self::Local => "local",
            Self::Packages => "packages",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// What a way has found.
pub(crate) enum Found {
    Address(address::Address),
    Container(container::Image),
    Installed(Installation),
}

/// A way's answer: found, or the reason why it does not work here. A failure that the user should see rather than fall
/// past (an address that cannot be parsed) is an error.
pub(crate) type Answer<T> = Result<std::result::Result<T, String>>;

/// Tries the ways in order.
pub(crate) async fn find(spec: &ServerSpec) -> Result<Found> {
    chosen::check(spec.flavor)?;
    find_among(spec, &allowed(std::env::var(ONLY).ok().as_deref())?).await
}

async fn find_among(spec: &ServerSpec, ways: &[SourceKind]) -> Result<Found> {
    let mut reasons = Vec::new();
    for &way in ways {
        let answer = match way {
            SourceKind::Address => address::find(spec)?.map(Found::Address),
            SourceKind::Container => container::find(spec).await?.map(Found::Container),
            SourceKind::Local => local::find(spec).await?.map(Found::Installed),
            SourceKind::Packages => packages::find(spec).await?.map(Found::Installed),
        };
        match answer {
            Ok(found) => {
                tracing::debug!(server = %spec, source = %way, "found a server");
                return Ok(found);
            }
            Err(reason) => reasons.push((way, reason)),
        }
    }
    Err(Unavailable {
        wanted: spec.to_string(),
        reasons,
    }
    .into())
}

fn allowed(only: Option<&str>) -> Result<Vec<SourceKind>> {
    let Some(only) = only.filter(|only| !only.trim().is_empty()) else {
        return Ok(SourceKind::ORDER.to_vec());
    };
    let words: Vec<&str> = only.split(',').map(str::trim).collect();
    if let Some(stranger) = words
        .iter()
        .find(|word| SourceKind::ORDER.iter().all(|way| way.word() != **word))
    {
        return Err(SupportError::Unsupported(format!(
            "{ONLY}={only}: {stranger:?} is not one of address, container, local, packages"
        )));
    }
    Ok(SourceKind::ORDER
        .into_iter()
        .filter(|way| words.contains(&way.word()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_keep_their_order_and_typos_are_refused() {
        assert_eq!(allowed(None).unwrap(), SourceKind::ORDER);
        assert_eq!(
            allowed(Some("packages, local")).unwrap(),
            [SourceKind::Local, SourceKind::Packages]
        );
        assert!(
            allowed(Some("docker"))
                .unwrap_err()
                .to_string()
                .contains("container")
        );
    }
}
