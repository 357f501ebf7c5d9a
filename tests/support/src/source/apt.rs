//! apt without root and without touching the system: a sources list, package lists and an archive directory of our own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Result, SupportError};

/// Package lists are about 10 MB, a closure up to 70 MB.
const APT_TIMEOUT: Duration = Duration::from_secs(600);

/// Unpacking one package is seconds at worst.
const UNPACK_TIMEOUT: Duration = Duration::from_secs(120);

/// Debian's own well-known address, for machines whose apt does not know a Debian mirror.
const PUBLIC_MIRROR: &str = "http://deb.debian.org/debian";

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Names of Debian suites as they occur in sources; other distributions have other names.
const SUITES: [&str; 12] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
];

/// An archive and the key that signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    pub(crate) keyring: Option<PathBuf>,
}

impl Mirror {
    /// The machine's own Debian mirror, else the public one if its key is here; otherwise the reason why not.
    pub(crate) fn of_this_machine() -> std::result::Result<Self, String> {
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        let found = files.iter().find_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("sources") => in_deb822(&text),
                Some("list") => in_one_line_style(&text),
                _ => None,
            }
        });
        let key = KEYRINGS.iter().map(PathBuf::from).find(|path| path.exists());
        match found {
            Some(mut mirror) => {
                mirror.keyring = mirror.keyring.filter(|path| path.exists()).or(key);
                Ok(mirror)
            }
            None if key.is_some() => Ok(Self {
                uri: PUBLIC_MIRROR.into(),
                keyring: key,
            }),
            None => Err(
                "apt knows no Debian mirror here and Debian's signing key is missing \
                         (package debian-archive-keyring)"
                    .into(),
            ),
        }
    }
}

fn is_debian(uri: &str, suites: &str, components: &str) -> bool {
    let a_suite = suites.split_whitespace().any(|suite| SUITES.contains(&suite));
    let path = uri.trim_end_matches('/');
    a_suite && path.ends_with("debian") && components.split_whitespace().any(|word| word == "main")
}

fn in_deb822(text: &str) -> Option<Mirror> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza
                .lines()
                .filter(|line| !line.starts_with('#'))
                .find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
        };
        let disabled = field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let binary = field("Types")?.split_whitespace().any(|kind| kind == "deb");
        let uri = field("URIs")?.split_whitespace().next()?;
        if disabled || !binary || !is_debian(uri, field("Suites")?, field("Components")?) {
            return None;
        }
        let keyring = field("Signed-By")
            .filter(|value| value.starts_with('/'))
            .map(PathBuf::from);
        Some(Mirror {
            uri: uri.to_owned(),
            keyring,
        })
    })
}

fn in_one_line_style(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let rest = line
            .trim()
            .strip_prefix("deb")?
            .strip_prefix([' ', '\t'])?
            .trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        if !is_debian(uri, suite, &words.collect::<Vec<_>>().join(" ")) {
            return None;
        }
        let keyring = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        Some(Mirror {
            uri: uri.to_owned(),
            keyring: keyring.map(PathBuf::from),
        })
    })
}

/// Suites of one archive, a release and its updates, and what of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suites {
    pub(crate) names: &'static [&'static str],
    pub(crate) components: &'static str,
}

impl Suites {
    /// The main component of one suite.
    pub(crate) const fn main(names: &'static [&'static str]) -> Self {
        Self {
            names,
            components: "main",
        }
    }
}

/// An apt of our own for the suites of one archive, in a directory below the cache.
#[derive(Debug)]
pub(crate) struct Apt {
    configuration: PathBuf,
    archives: PathBuf,
}

impl Apt {
    /// Writes the configuration and fetches the package lists of these suites of `mirror`.
    pub(crate) async fn open(mirror: &Mirror, suites: &Suites, directory: &Path) -> Result<Self> {
        let archives = directory.join("archives");
        for path in ["lists/partial", "state", "archives/partial"] {
            cache::create(&directory.join(path))?;
        }
        let signed = mirror
            .keyring
            .as_ref()
            .map(|path| format!("[signed-by={}] ", path.display()));
        let archive = format!("deb {}{}", signed.unwrap_or_default(), mirror.uri);
        let sources: String = suites
            .names
            .iter()
            .map(|suite| format!("{archive} {suite} {}\n", suites.components))
            .collect();
        write(&directory.join("sources.list"), &sources)?;
        // Nothing counts as installed, so that the closure is complete down to the C library.
        write(&directory.join("status"), "")?;

        let here = directory.display();
        let mut text = String::new();
        // Hooks of the machine (cleaning its caches, refreshing its software centre) are none of our business.
        for hook in [
            "APT::Update::Pre-Invoke",
            "APT::Update::Post-Invoke",
            "APT::Update::Post-Invoke-Success",
        ] {
            let _ = writeln!(text, "#clear {hook};");
        }
        let _ = write!(
            text,
            r#"#clear DPkg::Post-Invoke;
Dir::Etc::SourceList "{here}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{here}/state";
Dir::State::Lists "{here}/lists";
Dir::State::status "{here}/status";
Dir::Cache "{here}";
Dir::Cache::archives "{here}/archives";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
Debug::NoLocking "true";
"#
        );
        let configuration = directory.join("apt.conf");
        write(&configuration, &text)?;
        let apt = Self {
            configuration,
            archives,
        };
        apt.run("apt-get", &["update", "-q", "--error-on=any"]).await?;
        Ok(apt)
    }

    /// Fetches packages with everything they depend on, verified, and returns the files.
    ///
    /// The closure is what apt would install on an empty system: unlike `apt-cache depends --recurse` it takes one of
    /// several alternatives, not all. Packages whose names begin with an `unneeded` word (maintainer scripts' needs:
    /// perl, debconf, …) are left out.
    pub(crate) async fn fetch(&self, packages: &[&str], unneeded: &[&str]) -> Result<Vec<PathBuf>> {
        let mut words = vec![
            "install",
            "--yes",
            "--no-install-recommends",
            "--print-uris",
            "-qq",
        ];
        words.extend_from_slice(packages);
        let plan = self.run("apt-get", &words).await?;
        // 'http://…/x.deb' x_1.0_amd64.deb 1234 SHA256:…
        let mut wanted: Vec<String> = Vec::new();
        for line in plan.lines().filter(|line| line.starts_with('\'')) {
            let Some(file) = line.split_whitespace().nth(1) else {
                continue;
            };
            let name = file.split('_').next().unwrap_or(file);
            if !unneeded.iter().any(|prefix| name.starts_with(prefix)) {
                wanted.push(name.to_owned());
            }
        }
        let mut download = Command::new("apt-get");
        download
            .arg("-c")
            .arg(&self.configuration)
            .args(["download", "-qq"])
            .args(&wanted)
            .current_dir(&self.archives);
        command::run(&mut download, APT_TIMEOUT).await?;

        let entries =
            std::fs::read_dir(&self.archives).map_err(SupportError::file("read", &self.archives))?;
        let files = entries.flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        files.sort();
        Ok(files)
    }

    async fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        command::run(
            Command::new(program)
                .arg("-c")
                .arg(&self.configuration)
                .args(words),
            APT_TIMEOUT,
        )
        .await
    }
}

/// Unpacks packages over each other, without their maintainers' scripts.
pub(crate) async fn unpack(files: &[PathBuf], root: &Path) -> Result<()> {
    for file in files {
        let mut unpack = Command::new("dpkg-deb");
        command::run(unpack.arg("-x").arg(file).arg(root), UNPACK_TIMEOUT).await?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(SupportError::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deb822_source_names_the_mirror() {
        let text = "Types: deb\nURIs: https://packages.example.org/tool\nSuites: stable\nComponents: main\n\n\
                    # comment: here\nTypes: deb\n# more\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n\
                    Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        let mirror = in_deb822(text).unwrap();
        assert_eq!(mirror.uri, "http://mirror.example/debian");
        assert_eq!(
            mirror.keyring.unwrap(),
            Path::new("/usr/share/keyrings/debian-archive-keyring.gpg")
        );
    }

    #[test]
    fn a_one_line_source_names_the_mirror() {
        let text = "# deb http://old.example/debian sid main\n\
                    deb http://archive.ubuntu.com/ubuntu noble main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian/ bookworm main contrib\n";
        let expected = Mirror {
            uri: "https://mirror.example/debian/".into(),
            keyring: Some("/k.gpg".into()),
        };
        assert_eq!(in_one_line_style(text), Some(expected));
    }

    #[test]
    fn other_archives_are_not_taken_for_debian() {
        assert_eq!(
            in_one_line_style("deb http://security.debian.org/debian-security bookworm-security main"),
            None
        );
        assert_eq!(
            in_one_line_style("deb http://apt.example.org/debian mysuite main"),
            None
        );
    }
}
