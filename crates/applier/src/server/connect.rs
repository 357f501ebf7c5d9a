//! From an endpoint to a connection.

use std::io;
use std::time::Duration;

use mysql_async::{ClientIdentity, Conn, OptsBuilder, SslOpts};
use secrecy::ExposeSecret;

use super::{Role, ServerError};
use crate::settings::{Endpoint, Tls, TlsVerify};

/// How long a connection may take to be made where `--mysql-timeout` says nothing. A server that is up
/// answers in milliseconds; ten seconds outlast a lost SYN that is sent again twice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that vanished without a word is noticed by keep-alive probes; the system's default is two hours.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

pub(super) fn opts(endpoint: &Endpoint, tls: &Tls, role: Role) -> OptsBuilder {
    let builder = OptsBuilder::default()
        .user(Some(endpoint.user.clone()))
        .pass(Some(endpoint.password.expose_secret().to_owned()))
        // A tunnel's "localhost" must not turn into the socket of another server.
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEP_ALIVE))
        .tcp_nodelay(true)
        .stmt_cache_size(64)
        .ssl_opts(ssl_opts(tls))
        .connect_attribute("program_name", "changeling")
        .connect_attribute("changeling_role", role.name());
    if endpoint.host.starts_with('/') {
        builder.socket(Some(endpoint.host.clone()))
    } else {
        builder
            .ip_or_hostname(endpoint.host.clone())
            .tcp_port(endpoint.port)
    }
}

fn ssl_opts(tls: &Tls) -> Option<SslOpts> {
    let Tls::On { ca, identity, verify } = tls else {
        return None;
    };
    let mut opts = SslOpts::default();
    if let Some(ca) = ca {
        opts = opts
            .with_root_certs(vec![ca.clone().into()])
            .with_disable_built_in_roots(true);
    }
    if let Some((certificate, key)) = identity {
        opts = opts.with_client_identity(Some(ClientIdentity::new(
            certificate.clone().into(),
            key.clone().into(),
        )));
    }
    if *verify == TlsVerify::Nothing {
        opts = opts
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true);
    }
    Some(opts)
}

/// Connects, within the time allowed.
pub(super) async fn dial(
    endpoint: &Endpoint,
    tls: &Tls,
    timeout: Option<Duration>,
    role: Role,
) -> Result<Conn, ServerError> {
    let limit = timeout
        .filter(|limit| !limit.is_zero())
        .unwrap_or(CONNECT_TIMEOUT);
    let fail = |error| ServerError::new(endpoint.address(), "connect", error);
    match tokio::time::timeout(limit, Conn::new(opts(endpoint, tls, role))).await {
        Ok(result) => result.map_err(|error| fail(error).with_user(&endpoint.user)),
        Err(_) => {
            let text = format!("no answer within {} s", limit.as_secs_f64());
            Err(fail(io::Error::new(io::ErrorKind::TimedOut, text).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_async::Opts;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint {
            host: host.into(),
            port: 3307,
            user: "u".into(),
            password: "p".into(),
        }
    }

    #[test]
    fn a_path_is_a_socket() {
        let opts: Opts = opts(&endpoint("/run/mysqld.sock"), &Tls::Off, Role::Inspector).into();
        assert_eq!(opts.socket(), Some("/run/mysqld.sock"));
        assert!(opts.ssl_opts().is_none());
    }

    #[test]
    fn insecure_means_neither_certificate_nor_name() {
        let tls = Tls::On {
            ca: Some("/ca.pem".into()),
            identity: None,
            verify: TlsVerify::Nothing,
        };
        let opts: Opts = opts(&endpoint("db"), &tls, Role::Copier).into();
        assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("db", 3307));
        let ssl = opts.ssl_opts().expect("TLS is on");
        assert!(ssl.accept_invalid_certs() && ssl.skip_domain_validation() && ssl.disable_built_in_roots());
        assert_eq!(
            opts.connect_attributes()
                .and_then(|a| a.get("changeling_role").cloned()),
            Some("copier".into())
        );
    }
}
