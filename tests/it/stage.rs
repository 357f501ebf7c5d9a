//! What the tests share: servers, and a migration run inside the test.

use std::sync::Arc;
use std::time::Duration;

use changeling_applier::migration::{Migration, MigrationHandle};
use changeling_applier::server::{Role, Server as Known};
use changeling_applier::settings::{Endpoint, MigrationSettings, Permission, Place, Purpose};
use changeling_core::actor::ActorHost;
use changeling_core::ident::TableName;
use changeling_differ::mysql::SameServerProof;
use changeling_streamer::{BinlogSource, BinlogSourceOptions};
use changeling_support::Server;

/// How to log in to a server of the harness.
pub(crate) fn endpoint(server: &Server) -> Endpoint {
    Endpoint {
        host: server.host().to_owned(),
        port: server.port(),
        user: server.user().to_owned(),
        password: server.password().to_owned().into(),
    }
}

/// Settings that run on the primary itself.
pub(crate) fn settings(server: &Server, table: &TableName, alter: &str) -> MigrationSettings {
    let mut settings = MigrationSettings::new(table.clone(), alter, endpoint(server));
    settings.purpose = Purpose::Execute;
    settings.place = Place::Primary {
        inspect_primary: Permission::Granted,
    };
    settings.throttle.heartbeat_interval = Duration::from_millis(100);
    settings.server_id = 100_000 + u32::from(server.port());
    settings
}

/// Starts a migration with everything real.
pub(crate) fn migrate(host: &ActorHost, settings: MigrationSettings) -> MigrationHandle {
    let server_id = settings.server_id;
    let source = Box::new(move |server: &Known| {
        let options = BinlogSourceOptions::new(server.opts(Role::Streamer), server_id);
        Arc::new(BinlogSource::new(options)) as Arc<dyn changeling_core::change_source::ChangeSource>
    });
    Migration::start(host, settings, source, Arc::new(SameServerProof::new()))
}

/// Shows the tool's log when `RUST_LOG` is set.
pub(crate) fn log() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .try_init();
}
