//! The first way: a server that somebody else runs, named in the environment.

use crate::error::{Result, SupportError};
use crate::source::Answer;
use crate::spec::{Flavor, ServerSpec};

/// A server by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

pub(crate) fn find(spec: &ServerSpec) -> Answer<Address> {
    let variable = spec.flavor.address_variable();
    let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) else {
        return Ok(Err(format!("{variable} is not set")));
    };
    if spec.dedicated {
        return Ok(Err(format!(
            "{variable} is set, but a server with options of its own is needed"
        )));
    }
    parse(spec.flavor, &text).map(Ok)
}

fn parse(flavor: Flavor, text: &str) -> Result<Address> {
    let variable = flavor.address_variable();
    match flavor {
        Flavor::MySql | Flavor::MariaDb => {
            let example = "mysql://root:secret@127.0.0.1:3306";
            // Users write the flavor's own name; the driver knows one scheme.
            let url = text.replacen("mariadb://", "mysql://", 1);
            let opts = mysql_async::Opts::from_url(&url).map_err(|error| SupportError::Address {
                variable,
                reason: error.to_string(),
                example,
            })?;
            Ok(Address {
                host: opts.ip_or_hostname().to_owned(),
                port: opts.tcp_port(),
                user: opts.user().unwrap_or("root").to_owned(),
                password: opts.pass().unwrap_or_default().to_owned(),
            })
        }
        Flavor::Postgres => {
            let example = "postgres://postgres:secret@127.0.0.1:5432";
            let refuse = |reason: String| SupportError::Address {
                variable,
                reason,
                example,
            };
            let config: tokio_postgres::Config = text.parse().map_err(|error| refuse(format!("{error}")))?;
            let host = match config.get_hosts() {
                [tokio_postgres::config::Host::Tcp(host)] => host.clone(),
                _ => return Err(refuse("exactly one TCP host is needed".into())),
            };
            let password = config.get_password().unwrap_or_default();
            Ok(Address {
                host,
                port: config
                    .get_ports()
                    .first()
                    .copied()
                    .unwrap_or(flavor.standard_port()),
                user: config.get_user().unwrap_or("postgres").to_owned(),
                password: String::from_utf8_lossy(password).into_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_each_flavor_are_read() {
        let expected = Address {
            host: "db".into(),
            port: 3307,
            user: "u".into(),
            password: "p@".into(),
        };
        assert_eq!(parse(Flavor::MySql, "mysql://u:p%40@db:3307").unwrap(), expected);
        assert_eq!(
            parse(Flavor::MariaDb, "mariadb://u:p%40@db:3307/test").unwrap(),
            expected
        );
        assert_eq!(
            parse(Flavor::Postgres, "postgres://u:p%40@db:3307/test").unwrap(),
            expected
        );
        let error = parse(Flavor::Postgres, "postgres://%2Ftmp/x")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CHANGELING_TEST_POSTGRES") && error.contains("postgres://postgres"),
            "{error}"
        );
    }
}
