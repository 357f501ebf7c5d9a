//! TLS by libpq's rules, on a server that has it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use changeling_differ::model::NodeName;
use changeling_differ::postgres::{PgOptions, PgServer, Surroundings};
use changeling_support::{Server, ServerSpec, SupportError, skip};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A root of its own, and a server with a certificate of that root's for `localhost`.
struct Stage {
    server: Server,
    directory: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Result<Self, SupportError> {
        let server = ServerSpec::any_postgres().dedicated().start().await?;
        let directory = tempfile::tempdir().unwrap();
        let data = server.data_directory().expect("a server of this machine");
        let root = root();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .signed_by(&key, &root)
            .unwrap();
        give(&data, "server.crt", &certificate.pem());
        give(&data, "server.key", &key.serialize_pem());
        std::fs::write(directory.path().join("root.crt"), root.pem()).unwrap();
        let stranger = self::root();
        std::fs::write(directory.path().join("stranger.crt"), stranger.pem()).unwrap();
        let admin = server.postgres("postgres").await?;
        admin.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        Ok(Self { server, directory })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether the connection that these words make is encrypted.
    async fn encrypted(&self, words: &str) -> Result<bool, String> {
        let text = format!(
            "port={} user={} password={} dbname=postgres {words}",
            self.server.port(),
            self.server.user(),
            self.server.password()
        );
        let options =
            PgOptions::parse(&text, None, &Surroundings::default()).map_err(|error| error.to_string())?;
        let connection = PgServer::new(NodeName::new("n1"), options, Duration::from_secs(30))
            .connect(&[])
            .await
            .map_err(|error| error.to_string())?;
        let row = connection
            .client()
            .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
            .await
            .unwrap();
        Ok(row.get(0))
    }
}

fn root() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The server's own files must be its user's and nobody else's to read.
fn give(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let owner = std::fs::metadata(directory).unwrap();
    std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test]
async fn c19_tls_is_used_and_verified_as_libpq_does() {
    let stage = match Stage::new().await {
        Ok(stage) => stage,
        Err(SupportError::Unavailable(why)) => {
            skip::count(
                "encrypted::c19_tls_is_used_and_verified_as_libpq_does",
                &why.to_string(),
            );
            return;
        }
        Err(error) => panic!("{error}"),
    };
    // The server takes up its new settings in its own time.
    for _ in 0..100 {
        if stage.encrypted("host=localhost sslmode=prefer").await == Ok(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ours = format!("sslrootcert={}", stage.file("root.crt").display());
    let theirs = format!("sslrootcert={}", stage.file("stranger.crt").display());
    for (words, encrypted) in [
        ("host=localhost sslmode=disable".into(), false),
        ("host=127.0.0.1 sslmode=prefer".into(), true),
        ("host=127.0.0.1 sslmode=require".into(), true),
        (format!("host=127.0.0.1 sslmode=verify-ca {ours}"), true),
        (format!("host=localhost sslmode=verify-full {ours}"), true),
        (
            format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full {ours}"),
            true,
        ),
        // A root certificate turns `require` into `verify-ca`.
        (format!("host=127.0.0.1 sslmode=require {ours}"), true),
    ] {
        assert_eq!(stage.encrypted(&words).await, Ok(encrypted), "{words}");
    }
    for words in [
        format!("host=127.0.0.1 sslmode=verify-full {ours}"),
        format!("host=other.example hostaddr=127.0.0.1 sslmode=verify-full {ours}"),
        format!("host=localhost sslmode=verify-full {theirs}"),
        format!("host=localhost sslmode=verify-ca {theirs}"),
        format!("host=localhost sslmode=require {theirs}"),
        "host=localhost sslmode=verify-full sslrootcert=system".into(),
    ] {
        let error = stage.encrypted(&words).await.expect_err(&words);
        assert!(error.contains("certificate"), "{words}: {error}");
    }
}
