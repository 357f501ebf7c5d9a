use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use changeling_applier::settings::{
    CutOverBackoff, ForeignKeys, LoadLimits, Permission, Place, Purpose, Renames, Resume, Tls, TlsVerify,
    Triggers, VerifyMode, WarningPolicy,
};
use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::*;
use crate::args::migrate::{Request, parse};
use crate::args::table;

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        home: None,
        ask_password: Box::new(|| Ok(SecretString::from("typed"))),
    }
}

fn launch_in(surroundings: &Surroundings, words: &[&str]) -> Result<Launch, SettingsError> {
    let Request::Migrate(flags) = parse(words.iter().map(OsString::from))? else {
        panic!("not a migration")
    };
    prepare(&flags, surroundings)?.launch(surroundings)
}

/// With what every migration needs before the given flags.
fn launch(words: &[&str]) -> Result<Launch, SettingsError> {
    let words: Vec<&str> = MINIMUM.iter().chain(words).copied().collect();
    launch_in(&surroundings(&[]), &words)
}

fn settings(words: &[&str]) -> MigrationSettings {
    launch(words).unwrap().migration
}

fn refusal(words: &[&str]) -> String {
    launch(words).unwrap_err().to_string()
}

const MINIMUM: &[&str] = &["--database=shop", "--table=orders", "--alter=ENGINE=InnoDB"];

#[test]
fn with_the_minimum_everything_is_as_the_library_has_it() {
    let launch = launch(&[]).unwrap();
    let mut plain = MigrationSettings::new(
        launch.migration.table.clone(),
        "ENGINE=InnoDB",
        launch.migration.inspected.clone(),
    );
    plain.throttle.additional_flag_file = Some("/tmp/gh-ost.throttle".into());
    assert_eq!(format!("{:#?}", launch.migration), format!("{plain:#?}"));
    assert_eq!(launch.notes, vec![]);
    assert_eq!(launch.socket, PathBuf::from("/tmp/gh-ost.shop.orders.sock"));
    assert_eq!(launch.migration.inspected.address(), "127.0.0.1:3306");
}

#[test]
fn a_command_line_from_gh_osts_documentation_runs_unchanged() {
    let words = "--max-load=Threads_running=25 --critical-load=Threads_running=1000 --chunk-size=1000 \
        --throttle-control-replicas=myreplica.1.com,myreplica.2.com:3307 --max-lag-millis=1500 --user=gh-ost \
        --password=123456 --host=replica.with.rbr.com --database=my_schema --table=my_table --verbose \
        --alter=engine=innodb --switch-to-rbr=false --allow-master-master=false --cut-over=default \
        --exact-rowcount --concurrent-rowcount --default-retries=120 \
        --panic-flag-file=/tmp/ghost.panic.flag --postpone-cut-over-flag-file=/tmp/ghost.postpone.flag \
        --initially-drop-ghost-table --initially-drop-old-table --ok-to-drop-table --hooks-status-interval=60 \
        -execute";
    let words: Vec<&str> = words.split_whitespace().collect();
    let launch = launch_in(&surroundings(&[]), &words).unwrap();
    let migration = launch.migration;
    assert_eq!(migration.table.to_string(), "`my_schema`.`my_table`");
    assert_eq!(migration.alter, "engine=innodb");
    assert_eq!(migration.purpose, Purpose::Execute);
    assert_eq!(
        migration.throttle.max_load,
        LoadLimits::from([("Threads_running".into(), 25)])
    );
    assert_eq!(migration.throttle.critical_load["Threads_running"], 1000);
    assert_eq!(
        migration.throttle.control_replicas,
        vec![("myreplica.1.com".into(), 3306), ("myreplica.2.com".into(), 3307)]
    );
    assert_eq!(migration.retries, 120);
    assert_eq!(migration.inspected.user, "gh-ost");
    assert_eq!(migration.inspected.password.expose_secret(), "123456");
    assert_eq!(
        migration.cut_over.postpone_flag_file,
        Some("/tmp/ghost.postpone.flag".into())
    );
    assert!(migration.leftovers.drop_ghost_first.granted());
    assert!(migration.leftovers.drop_old_last.granted());
    assert!(migration.exact_rowcount.granted());
    assert_eq!(
        launch.notes.len(),
        1,
        "only that the password is visible: {:?}",
        launch.notes
    );
}

#[rstest]
#[case(&["--chunk-size=5"], |s: &MigrationSettings| s.copy.chunk_size == 10)]
#[case(&["--chunk-size=99999999"], |s: &MigrationSettings| s.copy.chunk_size == 100_000)]
#[case(&["--chunk-size=500"], |s: &MigrationSettings| s.copy.chunk_size == 500 && s.copy.chunk_time == Some(Duration::from_millis(250)))]
#[case(&["--chunk-size=500", "--chunk-time=0"], |s: &MigrationSettings| s.copy.chunk_time.is_none())]
#[case(&["--dml-batch-size=10"], |s: &MigrationSettings| s.batch_keys == 10)]
#[case(&["--dml-batch-size=0"], |s: &MigrationSettings| s.batch_keys == 1)]
#[case(&["--dml-batch-size=5000"], |s: &MigrationSettings| s.batch_keys == 1000)]
#[case(&["--default-retries=9999999999999"], |s: &MigrationSettings| s.retries == 9_999_999_999_999)]
#[case(&["--default-retries=0"], |s: &MigrationSettings| s.retries == 60)]
#[case(&["--max-lag-millis=1"], |s: &MigrationSettings| s.throttle.max_lag == Duration::from_millis(100))]
#[case(&["--heartbeat-interval-millis=5"], |s: &MigrationSettings| s.throttle.heartbeat_interval == Duration::from_millis(100))]
#[case(&["--heartbeat-interval-millis=5000"], |s: &MigrationSettings| s.throttle.heartbeat_interval == Duration::from_secs(1))]
#[case(&["--nice-ratio=-1"], |s: &MigrationSettings| s.throttle.nice_ratio == 0.0)]
#[case(&["--nice-ratio=0.7"], |s: &MigrationSettings| s.throttle.nice_ratio == 0.7)]
#[case(&["--nice-ratio=500"], |s: &MigrationSettings| s.throttle.nice_ratio == 100.0)]
#[case(&["--cut-over-lock-timeout-seconds=11"], |s: &MigrationSettings| s.cut_over.lock_timeout == Duration::from_secs(3))]
#[case(&["--cut-over-lock-timeout-seconds=0"], |s: &MigrationSettings| s.cut_over.lock_timeout == Duration::from_secs(3))]
#[case(&["--cut-over-lock-timeout-seconds=10"], |s: &MigrationSettings| s.cut_over.lock_timeout == Duration::from_secs(10))]
#[case(&["--cut-over-exponential-backoff"], |s: &MigrationSettings| s.cut_over.backoff == CutOverBackoff::Exponential { max: Duration::from_secs(64) })]
#[case(&["--cut-over-exponential-backoff", "--exponential-backoff-max-interval=1"], |s: &MigrationSettings| s.cut_over.backoff == CutOverBackoff::Exponential { max: Duration::from_secs(64) })]
#[case(&["--copy-workers=0"], |s: &MigrationSettings| s.copy.workers.get() == 1)]
#[case(&["--copy-workers=8", "--apply-lanes=500"], |s: &MigrationSettings| s.copy.workers.get() == 8 && s.lanes.get() == 64)]
#[case(&["--panic-on-warnings=false"], |s: &MigrationSettings| s.copy.warnings == WarningPolicy::Ignore)]
#[case(&["--panic-on-warnings"], |s: &MigrationSettings| s.copy.warnings == WarningPolicy::Abort)]
#[case(&["--checkpoint=false"], |s: &MigrationSettings| s.checkpoint.interval.is_none())]
#[case(&["--checkpoint", "--checkpoint-seconds=300"], |s: &MigrationSettings| s.checkpoint.interval == Some(Duration::from_secs(300)))]
#[case(&["--checkpoint-seconds=0"], |s: &MigrationSettings| s.checkpoint.interval == Some(Duration::from_secs(1)))]
#[case(&["--resume"], |s: &MigrationSettings| s.checkpoint.resume == Resume::Require)]
#[case(&["--resume=auto"], |s: &MigrationSettings| s.checkpoint.resume == Resume::Auto)]
#[case(&["--resume=false"], |s: &MigrationSettings| s.checkpoint.resume == Resume::No)]
#[case(&["--verify=off"], |s: &MigrationSettings| s.verify == VerifyMode::Off)]
#[case(&["--verify-report", "/tmp/r.json"], |s: &MigrationSettings| s.verify_report == Some("/tmp/r.json".into()))]
#[case(&["--allow-on-master"], |s: &MigrationSettings| s.place == Place::Primary { inspect_primary: Permission::Granted })]
#[case(&["--test-on-replica"], |s: &MigrationSettings| s.place == Place::TestOnReplica { stop_replica: Permission::Granted })]
#[case(&["--test-on-replica", "--test-on-replica-skip-replica-stop"], |s: &MigrationSettings| s.place == Place::TestOnReplica { stop_replica: Permission::Refused })]
#[case(&["--mysql-timeout=2.5"], |s: &MigrationSettings| s.timeout == Some(Duration::from_millis(2500)))]
#[case(&["--binlogsyncer-max-reconnect-attempts=-1"], |s: &MigrationSettings| s.max_reconnects.is_none())]
#[case(&["--binlogsyncer-max-reconnect-attempts=5"], |s: &MigrationSettings| s.max_reconnects == Some(5))]
#[case(&["--approve-renamed-columns"], |s: &MigrationSettings| s.renames == Renames::Approve)]
#[case(&["--discard-foreign-keys"], |s: &MigrationSettings| s.foreign_keys == ForeignKeys::Discard)]
#[case(&["--discard-foreign-keys", "--skip-foreign-key-checks"], |s: &MigrationSettings| s.foreign_keys == ForeignKeys::SkipChecks)]
#[case(&["--include-triggers", "--trigger-suffix=_v2"], |s: &MigrationSettings| s.triggers == Triggers::Include { suffix: "_v2".into(), remove_if_exists: Permission::Refused })]
#[case(&["--throttle-additional-flag-file="], |s: &MigrationSettings| s.throttle.additional_flag_file.is_none())]
#[case(&["--critical-load-interval-millis=50"], |s: &MigrationSettings| s.throttle.critical_load_interval == Some(Duration::from_millis(50)))]
#[case(&["--force-table-names=x"], |s: &MigrationSettings| s.leftovers.base_name.as_deref() == Some("x"))]
#[case(&["--storage-engine=InnoDB", "--revert=false", "--serve-tcp-port=0"], |s: &MigrationSettings| s.purpose == Purpose::DryRun)]
#[case(&["--execute", "--execute=false"], |s: &MigrationSettings| s.purpose == Purpose::DryRun)]
#[case(&["--alter=ALTER TABLE other.thing ADD x INT"], |s: &MigrationSettings| s.table.to_string() == "`shop`.`orders`")]
#[case(&["--database=", "--table=", "--alter=ALTER TABLE other.thing ADD x INT"], |s: &MigrationSettings| s.table.to_string() == "`other`.`thing`")]
#[case(&["--database", "a%20b & c"], |s: &MigrationSettings| s.table.schema == "a%20b & c")]
fn flags_become_settings(#[case] words: &[&str], #[case] holds: fn(&MigrationSettings) -> bool) {
    let settings = settings(words);
    assert!(holds(&settings), "{settings:#?}");
}

#[rstest]
#[case(&["--allow-on-master", "--test-on-replica"], "--allow-on-master and --test-on-replica are mutually exclusive")]
#[case(&["--test-on-replica-skip-replica-stop"], "--test-on-replica-skip-replica-stop requires --test-on-replica")]
#[case(&["--master-user=x"], "--master-user requires --assume-master-host")]
#[case(&["--master-password=x"], "--master-password requires --assume-master-host")]
#[case(&["--ssl-ca=/x"], "--ssl-ca requires --ssl")]
#[case(&["--ssl", "--ssl-cert=/x"], "--ssl-cert requires --ssl-key")]
#[case(&["--ssl-key=/x"], "--ssl-key requires --ssl")]
#[case(&["--ssl-allow-insecure"], "--ssl-allow-insecure requires --ssl")]
#[case(&["--include-triggers"], "--include-triggers requires --trigger-suffix")]
#[case(&["--trigger-suffix=x"], "--trigger-suffix requires --include-triggers")]
#[case(&["--include-triggers", "--trigger-suffix=a-b"], "--trigger-suffix must contain only")]
#[case(&["--cut-over=sideways"], "Unknown cut-over: sideways")]
#[case(&["--cut-over=two-step"], "not available in this release")]
#[case(&["--alter="], "--alter must be provided")]
#[case(&["--database="], "--database must be provided")]
#[case(&["--table="], "--table must be provided")]
#[case(&["--port=0"], "--port 0 is not a TCP port")]
#[case(&["--port=70000"], "--port 70000 is not a TCP port")]
#[case(&["--replica-server-id=4294967296"], "is not a server id")]
#[case(&["--mysql-timeout=-1"], "--mysql-timeout -1 is not a number of seconds")]
#[case(&["--max-load=Threads_running"], "--max-load: Error parsing load condition")]
#[case(&["--throttle-control-replicas=a,,b"], "--throttle-control-replicas:")]
#[case(&["--assume-master-host=db:x"], "--assume-master-host: Invalid port")]
#[case(&["--charset=utf8;drop"], "is not a list of character sets")]
#[case(&["--resume", "--checkpoint=false"], "--resume needs checkpoints")]
#[case(&["--approve-renamed-columns", "--skip-renamed-columns"], "mutually exclusive")]
#[case(&["--settings=/tmp/x.ini"], "must end in .toml")]
fn what_makes_no_sense_is_refused(#[case] words: &[&str], #[case] part: &str) {
    let text = refusal(words);
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_flag_that_does_not_work_yet_is_refused_by_name_and_with_a_reason() {
    use crate::args::flag::{Status, ValueKind};
    let mut refused = 0;
    for flag in table::all() {
        let Status::Refused(reason) = flag.status else {
            continue;
        };
        refused += 1;
        let value = match flag.kind {
            ValueKind::Switch => format!("--{}", flag.name),
            ValueKind::Unsigned => format!("--{}=4711", flag.name),
            _ => format!("--{}=rocksdb", flag.name),
        };
        let text = refusal(&[&value]);
        assert!(
            text.contains(&format!("--{}", flag.name)) && text.contains(reason),
            "{text}"
        );
        // The default, said aloud, is no reason to refuse.
        assert!(
            launch(&[&format!("--{}={}", flag.name, flag.default)]).is_ok(),
            "{}",
            flag.name
        );
    }
    assert_eq!(
        refused, 24,
        "with --cut-over=two-step, which is checked apart, 25"
    );
}

#[rstest]
#[case(&["--charset=latin1"], "the connection's character set does not matter here")]
#[case(&["--dml-batch-size=20"], "number of changed rows")]
#[case(&["--replication-lag-query=select 1"], "deprecated")]
#[case(&["--chunk-size=5"], "--chunk-size 5 is not in 10 to 100000; it is taken as 10")]
#[case(&["--cut-over-lock-timeout-seconds=20"], "out of range; it stays at 3")]
#[case(&["--password=x"], "process list")]
#[case(&["--resume", "--initially-drop-ghost-table"], "no effect with --resume")]
#[case(&["--exponential-backoff-max-interval=5"], "no effect without --cut-over-exponential-backoff")]
#[case(&["--concurrent-rowcount=false"], "no effect without --exact-rowcount")]
fn what_means_something_else_is_said_at_the_start(#[case] words: &[&str], #[case] part: &str) {
    let notes = launch(words).unwrap().notes;
    assert!(notes.iter().any(|note| note.text.contains(part)), "{notes:?}");
}

#[test]
fn tls_is_strict_unless_told_otherwise() {
    let Tls::On {
        ca: None,
        identity: None,
        verify: TlsVerify::Full,
    } = settings(&["--ssl"]).tls
    else {
        panic!()
    };
    let tls = settings(&[
        "--ssl",
        "--ssl-allow-insecure",
        "--ssl-cert=/c",
        "--ssl-key=/k",
        "--ssl-ca=/a",
    ])
    .tls;
    let Tls::On {
        ca: Some(_),
        identity: Some(_),
        verify: TlsVerify::Nothing,
    } = tls
    else {
        panic!()
    };
}

#[test]
fn the_primary_may_have_its_own_login() {
    let primary = settings(&["--user=a", "--password=b", "--assume-master-host=db:3307"])
        .assumed_primary
        .unwrap();
    assert_eq!(
        (primary.address().as_str(), primary.user.as_str()),
        ("db:3307", "a")
    );
    assert_eq!(primary.password.expose_secret(), "b");
    let other = settings(&[
        "--user=a",
        "--assume-master-host=db",
        "--master-user=c",
        "--master-password=d",
    ]);
    let primary = other.assumed_primary.unwrap();
    assert_eq!(
        (
            primary.port,
            primary.user.as_str(),
            primary.password.expose_secret()
        ),
        (3306, "c", "d")
    );
}

#[test]
fn log_levels_are_gh_osts_and_quiet_wins() {
    let level = |words: &[&str]| {
        let Ok(Request::Migrate(flags)) = parse(words.iter().map(OsString::from)) else {
            panic!()
        };
        prepare(&flags, &surroundings(&[])).unwrap().log.level
    };
    assert_eq!(level(&[]), LogLevel::Error);
    assert_eq!(level(&["--verbose"]), LogLevel::Info);
    assert_eq!(level(&["--verbose", "--debug"]), LogLevel::Debug);
    assert_eq!(level(&["--debug", "--quiet"]), LogLevel::Error);
}

// Layers.

fn with_file(
    name: &str,
    text: &str,
    variables: &[(&str, &str)],
    words: &[&str],
) -> Result<Launch, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    let settings = format!("--settings={}", path.display());
    let words: Vec<&str> = MINIMUM
        .iter()
        .chain([&settings.as_str()])
        .chain(words)
        .copied()
        .collect();
    launch_in(&surroundings(variables), &words)
}

#[test]
fn a_later_layer_goes_over_an_earlier_one() {
    let file = "chunk-size = 100\nchunk-time = 100\ncopy-workers = 3\n";
    let variables = [("CHANGELING_CHUNK_TIME", "200"), ("CHANGELING_COPY_WORKERS", "5")];
    let copy = with_file("s.toml", file, &variables, &["--copy-workers=7"])
        .unwrap()
        .migration
        .copy;
    assert_eq!(copy.chunk_size, 100);
    assert_eq!(copy.chunk_time, Some(Duration::from_millis(200)));
    assert_eq!(copy.workers.get(), 7);
}

#[rstest]
#[case(
    "s.toml",
    "ssl = true\nthrottle-control-replicas = [\"r1\", \"r2:3307\"]\nnice-ratio = 0.5\nuser = \"app\"\nresume = \"auto\"\n"
)]
#[case(
    "s.yaml",
    "ssl: true\nthrottle-control-replicas:\n  - r1\n  - r2:3307\nnice-ratio: 0.5\nuser: app\nresume: auto\n"
)]
#[case(
    "s.yml",
    "{ssl: 'true', throttle-control-replicas: 'r1,r2:3307', nice-ratio: '0.5', user: app, resume: auto}"
)]
fn files_may_be_toml_or_yaml(#[case] name: &str, #[case] text: &str) {
    let migration = with_file(name, text, &[], &[]).unwrap().migration;
    assert!(matches!(migration.tls, Tls::On { .. }));
    assert_eq!(
        migration.throttle.control_replicas,
        vec![("r1".into(), 3306), ("r2".into(), 3307)]
    );
    assert_eq!(migration.throttle.nice_ratio, 0.5);
    assert_eq!(migration.inspected.user, "app");
    assert_eq!(migration.checkpoint.resume, Resume::Auto);
}

#[rstest]
#[case("chunk_size = 5", "unknown key chunk_size; did you mean chunk-size?")]
#[case("Chunk-Size = 5", "did you mean chunk-size?")]
#[case("xyzzy = 5", "keys are the names of flags")]
#[case(
    "execute = true",
    "execute may only be given on the command line, as --execute"
)]
#[case("help = true", "only be given on the command line")]
#[case("settings = \"x\"", "cannot name another settings file")]
#[case("chunk-size = \"many\"", "invalid value \"many\" for flag -chunk-size")]
#[case("[max-load]\nThreads_running = 5", "must be one value or a list")]
#[case("serve-tcp-port = 10001", "--serve-tcp-port is not available in this release")]
#[case("chunk-size = ", "settings")]
fn a_bad_file_is_refused(#[case] text: &str, #[case] part: &str) {
    let error = with_file("s.toml", text, &[], &[]).unwrap_err();
    assert_eq!(error.exit_status(), 1);
    let error = error.to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert!(refusal(&["--settings=/nowhere/s.toml"]).contains("cannot read /nowhere/s.toml"));
}

#[test]
fn the_environment_can_name_the_file_and_misspelt_variables_are_pointed_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.toml");
    fs::write(&path, "chunk-size = 77\n").unwrap();
    let path = path.display().to_string();
    let variables = [
        ("CHANGELING_SETTINGS", path.as_str()),
        ("CHANGELING_CHUNKSIZE", "5"),
        ("CHANGELING_TEST_MYSQL", "x"),
        ("CHANGELING_USER", ""),
    ];
    let launch = launch_in(&surroundings(&variables), MINIMUM).unwrap();
    assert_eq!(launch.migration.copy.chunk_size, 77);
    assert_eq!(launch.notes.len(), 1);
    assert!(
        launch.notes[0]
            .text
            .contains("did you mean CHANGELING_CHUNK_SIZE?"),
        "{:?}",
        launch.notes
    );
}

#[test]
fn execute_is_not_taken_from_the_environment() {
    let error = launch_in(&surroundings(&[("CHANGELING_EXECUTE", "true")]), MINIMUM)
        .unwrap_err()
        .to_string();
    assert!(error.contains("CHANGELING_EXECUTE in the environment"), "{error}");
}

#[test]
fn only_go_syntax_errors_exit_with_2() {
    let syntax = launch(&["--no-such-flag"]).unwrap_err();
    assert_eq!(syntax.exit_status(), 2);
    assert_eq!(launch(&["--ssl-ca=/x"]).unwrap_err().exit_status(), 1);
}

// Logins.

struct Login {
    flags: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    conf: Option<&'static str>,
    home: Option<&'static str>,
}

const NOBODY: Login = Login {
    flags: &[],
    variables: &[],
    conf: None,
    home: None,
};

#[rstest]
#[case(Login { flags: &["--user=u", "--password=p"], ..NOBODY }, "u", "p")]
#[case(Login { flags: &["--user=u"], variables: &[("CHANGELING_PASSWORD", "p")], ..NOBODY }, "u", "p")]
#[case(Login { flags: &["--user=u"], variables: &[("MYSQL_PWD", "p")], ..NOBODY }, "u", "p")]
#[case(Login { flags: &["--password=p"], variables: &[("CHANGELING_PASSWORD", "q"), ("MYSQL_PWD", "r")], ..NOBODY }, "", "p")]
#[case(Login { flags: &["--ask-pass", "--password=p"], ..NOBODY }, "", "typed")]
#[case(Login { conf: Some("[client]\nuser=c\npassword=d"), ..NOBODY }, "c", "d")]
#[case(Login { conf: Some("[client]\nuser=c\npassword=d"), flags: &["--user=u"], variables: &[("MYSQL_PWD", "r")], ..NOBODY }, "u", "d")]
#[case(Login { conf: Some("[client]\nuser=c\npassword=${SECRET}"), variables: &[("SECRET", "s")], ..NOBODY }, "c", "s")]
#[case(Login { home: Some("[client]\nuser=h\npassword=i"), ..NOBODY }, "h", "i")]
#[case(Login { home: Some("[client]\nuser=h\npassword=i"), flags: &["--user=u"], ..NOBODY }, "u", "")]
#[case(Login { home: Some("[client]\nuser=h\npassword=i"), conf: Some("[client]\n"), ..NOBODY }, "", "")]
#[case(Login { home: Some("[client]\nuser=h\npassword=i"), variables: &[("MYSQL_PWD", "r")], ..NOBODY }, "", "r")]
fn the_login_is_found(#[case] login: Login, #[case] user: &str, #[case] password: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut words = MINIMUM.to_vec();
    words.extend(login.flags);
    let conf = directory.path().join("conf");
    let conf_flag = format!("--conf={}", conf.display());
    if let Some(text) = login.conf {
        fs::write(&conf, text).unwrap();
        words.push(&conf_flag);
    }
    if let Some(text) = login.home {
        fs::write(directory.path().join(".my.cnf"), text).unwrap();
    }
    let surroundings = Surroundings {
        home: Some(directory.path().to_owned()),
        ..surroundings(login.variables)
    };
    let launch = launch_in(&surroundings, &words).unwrap();
    assert_eq!(launch.migration.inspected.user, user);
    assert_eq!(launch.migration.inspected.password.expose_secret(), password);
    assert!(password.is_empty() || !format!("{launch:?}").contains(&format!("\"{password}\"")));
}

#[test]
fn a_conf_file_that_is_not_there_is_an_error() {
    assert!(refusal(&["--conf=/nowhere/my.cnf"]).contains("cannot read /nowhere/my.cnf"));
}

#[test]
fn a_settings_file_that_cannot_be_read_does_not_tell_the_password() {
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("s.toml");
    for line in [
        "password = \"Secr\\q3tPwd\"",
        "password = Secr3tPwd",
        "password = \"Secr3tPwd",
        "password = \"Secr3tPwd\" x",
        "master-password = 'Secr3tPwd",
    ] {
        fs::write(&path, format!("user = \"u\"\n{line}\n")).expect("written");
        let error = refusal(&[&format!("--settings={}", path.display())]);
        assert!(!error.contains("Secr"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }
}
