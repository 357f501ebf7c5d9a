//! Who replicates from whom: where the events come from, and where the tables are written.

use mysql_async::Row;

use super::problem::{InspectError, ProblemKind, Problems};
use crate::server::{ErrorKind, Role, Server, ServerError, shown};
use crate::settings::{MigrationSettings, Permission, Place};

/// How far replication is followed towards the primary. Chains are two or three long; this ends a riddle.
const LONGEST_CHAIN: usize = 10;

/// What a replica does not replicate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    pub(super) do_db: Vec<String>,
    pub(super) ignore_db: Vec<String>,
    pub(super) do_table: Vec<String>,
    pub(super) ignore_table: Vec<String>,
    pub(super) wild_do: Vec<String>,
    pub(super) wild_ignore: Vec<String>,
}

/// One stream of replication that a server receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) running: bool,
    pub(super) state: String,
    pub(super) filters: Filters,
}

/// The servers of a migration.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    pub(super) source: Server,
    pub(super) primary: Server,
    /// What the source receives; empty if it is no replica.
    pub(super) channels: Vec<Channel>,
}

impl Topology {
    pub(super) fn is_one_server(&self) -> bool {
        self.source.unique_id == self.primary.unique_id
    }
}

fn list(text: Option<String>) -> Vec<String> {
    text.unwrap_or_default()
        .split(',')
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}

fn channel(row: &Row) -> Option<Channel> {
    let get = |names: &[&str]| shown(row, names);
    // Group replication has channels of its own, which lead to no single server.
    if get(&["Channel_Name"]).is_some_and(|name| name.starts_with("group_replication_")) {
        return None;
    }
    let host = get(&["Source_Host", "Master_Host"]).filter(|host| !host.is_empty())?;
    let io = get(&["Replica_IO_Running", "Slave_IO_Running"]).unwrap_or_default();
    let sql = get(&["Replica_SQL_Running", "Slave_SQL_Running"]).unwrap_or_default();
    let last_error = get(&["Last_IO_Error"])
        .filter(|text| !text.is_empty())
        .or_else(|| get(&["Last_SQL_Error"]).filter(|text| !text.is_empty()))
        .map_or_else(String::new, |text| format!(", last error: {text}"));
    Some(Channel {
        host,
        port: get(&["Source_Port", "Master_Port"])
            .and_then(|port| port.parse().ok())
            .unwrap_or(3306),
        running: io == "Yes" && sql == "Yes",
        state: format!("IO thread: {io}, SQL thread: {sql}{last_error}"),
        filters: Filters {
            do_db: list(get(&["Replicate_Do_DB"])),
            ignore_db: list(get(&["Replicate_Ignore_DB"])),
            do_table: list(get(&["Replicate_Do_Table"])),
            ignore_table: list(get(&["Replicate_Ignore_Table"])),
            wild_do: list(get(&["Replicate_Wild_Do_Table"])),
            wild_ignore: list(get(&["Replicate_Wild_Ignore_Table"])),
        },
    })
}

/// What a server receives from others.
pub(super) async fn channels(server: &Server) -> Result<Vec<Channel>, ServerError> {
    Ok(replication(server).await?.iter().filter_map(channel).collect())
}

/// Whether a server carries out what it receives from another.
pub(crate) async fn applies(server: &Server) -> Result<bool, ServerError> {
    let running = |row: &Row| shown(row, &["Replica_SQL_Running", "Slave_SQL_Running"]);
    let rows = replication(server).await?;
    Ok(rows
        .iter()
        .filter_map(running)
        .any(|running| running.eq_ignore_ascii_case("yes")))
}

async fn replication(server: &Server) -> Result<Vec<Row>, ServerError> {
    let statement = if server.is_mariadb() {
        "SHOW ALL SLAVES STATUS".to_owned()
    } else {
        format!("SHOW {} STATUS", server.replica_word())
    };
    let mut conn = server.connect(Role::Inspector).await?;
    server.show(&mut conn, &statement).await
}

/// As [`channels`]; a missing privilege is a problem among others.
async fn channels_or_problem(server: &Server, problems: &mut Problems) -> Result<Vec<Channel>, ServerError> {
    match channels(server).await {
        Err(error) if error.kind == ErrorKind::Privilege => {
            let privilege = if server.is_mariadb() {
                "REPLICA MONITOR"
            } else {
                "REPLICATION CLIENT"
            };
            problems.add(
                ProblemKind::Privileges,
                format!("user has insufficient privileges for migration: {error}"),
                format!("GRANT {privilege} ON *.* TO the account"),
            );
            Ok(Vec::new())
        }
        other => other,
    }
}

/// Finds the servers, and complains of what is wrong with them.
pub(super) async fn find(
    settings: &MigrationSettings,
    problems: &mut Problems,
) -> Result<Topology, InspectError> {
    let source = Server::open(&settings.inspected, &settings.tls, settings.timeout).await?;
    check_port(&source, settings, problems);
    let received = channels_or_problem(&source, problems).await?;
    let primary = match (&settings.place, &settings.assumed_primary) {
        (Place::TestOnReplica { .. }, _) => source.clone(),
        (_, Some(endpoint)) => {
            let primary = Server::open(endpoint, &settings.tls, settings.timeout).await?;
            check_port(&primary, settings, problems);
            primary
        }
        (_, None) => follow(&source, received.clone(), problems).await?,
    };
    let topology = Topology {
        source,
        primary,
        channels: received,
    };
    check_place(&topology, settings, problems);
    check_cluster(&topology.primary, problems);
    Ok(topology)
}

/// Follows replication up to a server that receives nothing.
async fn follow(
    source: &Server,
    mut received: Vec<Channel>,
    problems: &mut Problems,
) -> Result<Server, InspectError> {
    let mut server = source.clone();
    let mut seen = vec![server.unique_id.clone()];
    while let Some(channel) = received.first() {
        let address = server.address().to_owned();
        if received.len() > 1 {
            problems.add(
                ProblemKind::Topology,
                format!("{address} replicates from {} servers", received.len()),
                "name the primary of the table by --assume-master-host",
            );
            return Ok(server);
        }
        if !channel.running {
            problems.add(
                ProblemKind::Topology,
                format!("replication on {address} is broken: {}", channel.state),
                "START REPLICA, or read from another server",
            );
        }
        let above = match server.open_sibling(&channel.host, channel.port).await {
            Ok(above) => above,
            Err(error) => {
                problems.add(
                    ProblemKind::Topology,
                    format!(
                        "{address} replicates from {}:{}, but: {error}",
                        channel.host, channel.port
                    ),
                    "name the primary as it is reached from here by --assume-master-host",
                );
                return Ok(server);
            }
        };
        if seen.contains(&above.unique_id) || seen.len() > LONGEST_CHAIN {
            problems.add(
                ProblemKind::Topology,
                format!(
                    "there seems to be a master-master setup at {} and {address}",
                    above.address()
                ),
                "name the server that takes the writes by --assume-master-host",
            );
            return Ok(above);
        }
        seen.push(above.unique_id.clone());
        received = channels_or_problem(&above, problems).await?;
        server = above;
    }
    Ok(server)
}

fn check_port(server: &Server, settings: &MigrationSettings, problems: &mut Problems) {
    if settings.skip_port_validation.granted() || server.endpoint.host.starts_with('/') {
        return;
    }
    let reported: Vec<u64> = ["port", "extra_port"]
        .iter()
        .filter_map(|name| server.variables.number(name))
        .collect();
    if !reported.is_empty() && !reported.contains(&u64::from(server.endpoint.port)) {
        problems.add(
            ProblemKind::Settings,
            format!(
                "unexpected database port reported: {} by {}",
                reported[0],
                server.address()
            ),
            "behind a proxy or a tunnel --skip-port-validation is right",
        );
    }
}

fn check_place(topology: &Topology, settings: &MigrationSettings, problems: &mut Problems) {
    let address = topology.source.address();
    match &settings.place {
        Place::TestOnReplica { .. } if topology.channels.is_empty() => problems.add(
            ProblemKind::Topology,
            format!("{address} doesn't seem to be a replica"),
            "--test-on-replica rehearses on a replica: name one by --host",
        ),
        Place::Primary { inspect_primary: Permission::Refused } if topology.is_one_server() => problems.add(
            ProblemKind::Topology,
            format!(
                "it seems like this migration attempt to run directly on master ({address}). Preferably it would \
                 be executed on a replica (this reduces load from the master)"
            ),
            "to proceed please provide --allow-on-master",
        ),
        Place::Primary { .. } if !topology.is_one_server() && topology.channels.is_empty() => problems.add(
            ProblemKind::Topology,
            format!(
                "{address} doesn't seem to be a replica, so its binary log has no changes of {}",
                topology.primary.address()
            ),
            "name by --host the primary itself (with --allow-on-master) or one of its replicas",
        ),
        _ => {}
    }
}

/// Clusters in which a lock on one server does not hold on the others.
fn check_cluster(primary: &Server, problems: &mut Problems) {
    let variables = &primary.variables;
    if variables.is_on("wsrep_on") == Some(true) {
        problems.add(
            ProblemKind::Topology,
            format!(
                "{} is a Galera node, where LOCK TABLES does not hold on the other nodes",
                primary.address()
            ),
            "not supported",
        );
    }
    let grouped = variables
        .get("group_replication_group_name")
        .is_some_and(|name| !name.is_empty());
    if grouped && variables.is_on("group_replication_single_primary_mode") == Some(false) {
        problems.add(
            ProblemKind::Topology,
            format!(
                "{} is in a multi-primary group, where a lock does not hold on the others",
                primary.address()
            ),
            "group_replication_switch_to_single_primary_mode()",
        );
    }
}
