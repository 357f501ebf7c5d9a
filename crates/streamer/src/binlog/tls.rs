//! TLS for the binary log's connection, from the options the driver uses too.

use std::sync::Arc;

use mysql_async::SslOpts;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{ErrorKind, StreamError};

fn failed(what: &str, error: impl std::fmt::Display) -> StreamError {
    StreamError::new(ErrorKind::Settings, format!("TLS: {what}: {error}"))
}

/// Secures a connection to `host`.
pub(super) async fn wrap<T>(ssl: &SslOpts, host: &str, transport: T) -> Result<TlsStream<T>, StreamError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(host, error))?;
    let config = configuration(ssl).await?;
    // A refused certificate comes as an i/o error too; trying again changes nothing.
    let connect = TlsConnector::from(Arc::new(config)).connect(name, transport);
    connect.await.map_err(|error| {
        let kind = match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(_) => ErrorKind::Refused,
            None => ErrorKind::Unreachable,
        };
        StreamError::new(kind, format!("TLS with {host}: {error}"))
    })
}

async fn configuration(ssl: &SslOpts) -> Result<ClientConfig, StreamError> {
    let mut roots = RootCertStore::empty();
    if !ssl.disable_built_in_roots() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for source in ssl.root_certs() {
        let data = source
            .read()
            .await
            .map_err(|error| failed("root certificate", error))?;
        for certificate in certificates(&data)? {
            roots
                .add(certificate)
                .map_err(|error| failed("root certificate", error))?;
        }
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("protocol versions", error))?
        .with_root_certificates(Arc::clone(&roots));
    let mut config = match ssl.client_identity() {
        Some(identity) => {
            let chain = identity.cert_chain();
            let chain = chain
                .read()
                .await
                .map_err(|error| failed("client certificate", error))?;
            let key = identity.priv_key();
            let key = key.read().await.map_err(|error| failed("private key", error))?;
            let (chain, key) = (certificates(&chain)?, private_key(&key)?);
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed("client certificate", error))?
        }
        None => builder.with_no_client_auth(),
    };
    if ssl.accept_invalid_certs() || ssl.skip_domain_validation() {
        let strict = match WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build() {
            Ok(verifier) => Some(verifier),
            // No root at all: only bearable when no certificate is looked at.
            Err(_) if ssl.accept_invalid_certs() => None,
            Err(error) => return Err(failed("root certificates", error)),
        };
        let verifier = Lenient {
            any: ssl.accept_invalid_certs(),
            strict,
            provider,
        };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
    }
    Ok(config)
}

/// PEM with any number of certificates, or one in DER.
fn certificates(data: &[u8]) -> Result<Vec<CertificateDer<'static>>, StreamError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(data).collect();
    let found = read.map_err(|error| failed("certificate", error))?;
    if found.is_empty() && !data.is_empty() {
        return Ok(vec![CertificateDer::from(data.to_vec())]);
    }
    Ok(found)
}

fn private_key(data: &[u8]) -> Result<PrivateKeyDer<'static>, StreamError> {
    if std::str::from_utf8(data).is_err() {
        return Ok(PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(data.to_vec())));
    }
    PrivateKeyDer::from_pem_slice(data).map_err(|error| failed("private key", error))
}

/// Verifies less than everything, because the settings say so.
#[derive(Debug)]
struct Lenient {
    any: bool,
    strict: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(strict) = self.strict.as_ref().filter(|_| !self.any) else {
            return Ok(ServerCertVerified::assertion());
        };
        match strict.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
