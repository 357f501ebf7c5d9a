//! Servers, logins, encryption, binary logs.

use super::super::flag::{FlagSpec, Topic, ValueKind};

const CLOUD: &str = "the checks of host and port that it would skip are not made here; what the server in front of you \
     needs is --skip-port-validation or --assume-master-host";

const fn switch(name: &'static str, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::switch(name, topic, help)
}

const fn value(name: &'static str, kind: ValueKind, topic: Topic, help: &'static str) -> FlagSpec {
    FlagSpec::value(name, kind, topic, help)
}

pub(super) const FLAGS: &[FlagSpec] = &[
    value(
        "host",
        ValueKind::Text,
        Topic::Server,
        "The server to inspect and to read the binary log from. Best a replica: the primary is then found from it. \
         With --allow-on-master it may be the primary itself.",
    )
    .default("127.0.0.1"),
    value("port", ValueKind::Whole, Topic::Server, "Its TCP port, 1 to 65535.").default("3306"),
    value("user", ValueKind::Text, Topic::Server, "Account on all servers. Overrides --conf."),
    value(
        "password",
        ValueKind::Secret,
        Topic::Server,
        "Its password. Everybody on this machine can see it in the process list: better use CHANGELING_PASSWORD, \
         MYSQL_PWD, --conf or --ask-pass.",
    ),
    switch("ask-pass", Topic::Server, "Ask for the password on the terminal, without echo."),
    value(
        "conf",
        ValueKind::Path,
        Topic::Server,
        "Option file with user and password in its [client] section; a value ${NAME} is taken from the environment. \
         Without --conf, --user and a password, ~/.my.cnf is read in the same way.",
    ),
    value(
        "assume-master-host",
        ValueKind::Text,
        Topic::Server,
        "The primary, as host or host:port, when it shall not be searched for from --host.",
    ),
    value(
        "master-user",
        ValueKind::Text,
        Topic::Server,
        "Account on the primary, if another one. Needs --assume-master-host.",
    ),
    value(
        "master-password",
        ValueKind::Secret,
        Topic::Server,
        "Password on the primary, if another one. Needs --assume-master-host. Better given as \
         CHANGELING_MASTER_PASSWORD.",
    ),
    value(
        "mysql-timeout",
        ValueKind::Real,
        Topic::Server,
        "Seconds after which a connection attempt, a read or a write is given up; 0 for never.",
    )
    .default("0.0"),
    value("charset", ValueKind::List, Topic::Server, "Character sets of the connection, the first that works.")
        .default("utf8mb4,utf8,latin1")
        .differs(
            "the connection's character set does not matter here: values never pass through this program, the server \
             copies them itself",
        ),
    switch(
        "skip-port-validation",
        Topic::Server,
        "Do not compare --port with the server's @@port, as behind a proxy.",
    ),
    switch("aliyun-rds", Topic::Server, "The server is an Aliyun RDS.").refused(CLOUD),
    switch("gcp", Topic::Server, "The server is a first-generation Google Cloud SQL.").refused(CLOUD),
    switch("azure", Topic::Server, "The server is an Azure Database for MySQL.").refused(CLOUD),
    switch("ssl", Topic::Encryption, "Encrypt all connections, and check the server's certificate and name."),
    value(
        "ssl-ca",
        ValueKind::Path,
        Topic::Encryption,
        "Certificate authority, PEM; else those of the system. Needs --ssl.",
    ),
    value("ssl-cert", ValueKind::Path, Topic::Encryption, "Client certificate, PEM. Needs --ssl and --ssl-key."),
    value("ssl-key", ValueKind::Path, Topic::Encryption, "Its private key, PEM. Needs --ssl and --ssl-cert."),
    switch(
        "ssl-allow-insecure",
        Topic::Encryption,
        "Encrypt, and check neither certificate nor name: no protection against an impostor. Needs --ssl.",
    ),
    switch(
        "allow-on-master",
        Topic::Replication,
        "Let --host be the primary itself. Reading the binary log from a replica takes load off the primary.",
    ),
    switch("allow-master-master", Topic::Replication, "Accept two primaries that replicate from each other.")
        .refused("with two writable primaries the binary log of one does not hold all changes in commit order"),
    switch("tungsten", Topic::Replication, "Replication is done by Tungsten.")
        .refused("Tungsten does not keep the commit order that the cut-over relies on"),
    switch(
        "gtid",
        Topic::Replication,
        "Positions in the binary log are GTIDs, which hold on every replica, instead of file and offset.",
    ),
    switch(
        "assume-rbr",
        Topic::Replication,
        "The binary log is in ROW format for certain; do not restart replication to be sure of it.",
    ),
    switch("switch-to-rbr", Topic::Replication, "Set the replica's binary log format to ROW first.")
        .refused("set binlog_format=ROW yourself, it is a change that outlives the migration"),
    value(
        "replica-server-id",
        ValueKind::Unsigned,
        Topic::Replication,
        "The server id under which the binary log is read. Each migration that runs at the same time needs its own.",
    )
    .default("99999"),
    value(
        "binlogsyncer-max-reconnect-attempts",
        ValueKind::Whole,
        Topic::Replication,
        "How often in a row the binary log connection is made anew without progress before giving up; 0 for no limit.",
    )
    .default("0"),
];
