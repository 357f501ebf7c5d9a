use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as BlockingListener, UnixStream as BlockingStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use changeling_applier::control::grammar::CommandRules;
use changeling_applier::progress::Phase;
use changeling_applier::settings::Permission;
use rstest::rstest;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::socket::{CommandSocket, SocketError};
use super::*;
use crate::render::status::Scene;
use crate::render::status::tests::sample;

/// A migration that does what it is told, and remembers it.
pub(crate) struct Scripted {
    state: Mutex<MigrationState>,
    pub(crate) told: Mutex<Vec<ControlCommand>>,
    /// Ends when it is told to panic, and answers when the end is known.
    pub(crate) ends: CancellationToken,
}

impl Scripted {
    pub(crate) fn new(state: MigrationState) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            told: Mutex::new(Vec::new()),
            ends: CancellationToken::new(),
        })
    }

    fn apply(&self, command: &ControlCommand) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            ControlCommand::Throttle => state.throttled = Some("commanded by user".into()),
            ControlCommand::NoThrottle => state.throttled = None,
            ControlCommand::ChunkSize(rows) => state.settings.chunk_size = *rows,
            ControlCommand::ControlReplicas(hosts) => {
                state.settings.control_replicas = hosts
                    .iter()
                    .map(|(host, port)| format!("{host}:{port}"))
                    .collect();
            }
            _ => {}
        }
    }
}

impl Control for Scripted {
    fn state(&self) -> MigrationState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn command(&self, command: ControlCommand) -> ControlReply {
        if command == ControlCommand::NiceRatio(100.0) {
            return ControlReply::Refused("too nice".into());
        }
        self.apply(&command);
        if command == ControlCommand::Panic {
            self.ends.cancel();
            // The process is on its way out meanwhile.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(command);
        ControlReply::Done(Box::new(self.state()))
    }
}

pub(crate) fn rules() -> CommandRules {
    CommandRules {
        table: "orders".into(),
        named_cut_over: Permission::Refused,
        named_panic: Permission::Granted,
    }
}

fn scene() -> Scene {
    Scene {
        executing_on: "ops1".into(),
        time_zone: jiff::tz::TimeZone::UTC,
        socket: "/tmp/s".into(),
        set_files: Default::default(),
    }
}

async fn ask(state: MigrationState, line: &str) -> String {
    let migration = Scripted::new(MigrationState {
        names: sample().names,
        ..state
    });
    answer::answer(line, &migration, &rules(), &scene()).await
}

#[rstest]
#[case("", "")]
#[case("coordinates", "bin.000069:5961\n")]
#[case("applier", "Host: primary:3306, Version: 8.4.6\n")]
#[case("inspector", "Host: replica1:3306, Version: 8.4.6\n")]
#[case("chunk-size=?", "1000\n")]
#[case("dml-batch-size=?", "500\n")]
#[case("max-lag-millis=?", "1500\n")]
#[case("nice-ratio=?", "0\n")]
#[case("max-load=?", "Threads_running=50\n")]
#[case("critical-load=?", "\n")]
#[case("throttle-query=?", "\n")]
#[case("throttle-http=?", "\n")]
#[case("throttle-control-replicas=?", "\n")]
#[case("nice-ratio=100", "too nice\n")]
#[case("brew", "unknown command: brew\n")]
#[case(
    "panic",
    "user commanded 'panic' without specifying table name, but --force-named-panic is set; say panic=orders\n"
)]
#[case(
    "panic=orders",
    "user commanded 'panic'. The migration will be aborted without cleanup. All tables stay as they are\n"
)]
#[case(
    "throttle=users",
    "user commanded 'throttle' on users, but migrated table is orders; ignoring request\n"
)]
#[case(
    "unpostpone",
    "You may only invoke this when actively postponing migration. At this time it is not.\n"
)]
#[tokio::test]
async fn a_short_answer(#[case] line: &str, #[case] expected: &str) {
    assert_eq!(ask(sample(), line).await, expected);
}

#[rstest]
#[case("status")]
#[case("sup")]
#[case("throttle")]
#[case("chunk-size=250")]
#[case("throttle-control-replicas=r1,r2:3307")]
#[case("help")]
#[tokio::test]
async fn a_long_answer(#[case] line: &str) {
    let name = format!("answer-{}", line.replace(['=', ',', ':'], "-"));
    insta::assert_snapshot!(name, ask(sample(), line).await);
}

#[tokio::test]
async fn the_cut_over_is_released_while_it_is_postponed() {
    let state = MigrationState {
        phase: Phase::Postponing,
        ..sample()
    };
    assert!(
        ask(state, "cut-over=orders")
            .await
            .starts_with("Unpostponed\n# Migrating `shop`.`orders`")
    );
}

// The socket.

struct Server {
    directory: tempfile::TempDir,
    migration: Arc<Scripted>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = CommandSocket::bind(&directory.path().join("sock"), false).unwrap();
        let migration = Scripted::new(sample());
        let cancel = migration.ends.clone();
        let task = tokio::spawn(socket.serve(Arc::clone(&migration), rules(), scene(), cancel.clone()));
        Self {
            directory,
            migration,
            cancel,
            task,
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("sock")
    }

    /// Sends these bytes, closes the writing side if told to, and reads until the server closes.
    async fn talk(&self, bytes: impl Into<Vec<u8>>, close: bool) -> String {
        let (path, bytes) = (self.path(), bytes.into());
        spawn_blocking(move || {
            let mut stream = BlockingStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // A server that has seen enough may close before it has read everything.
            let _ = stream.write_all(&bytes);
            if close {
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        })
        .await
        .unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.cancel.cancel();
        self.task.await.unwrap();
        self.directory
    }
}

fn entries(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_at_the_end() {
    let server = Server::start();
    let mode = fs::metadata(server.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        entries(server.directory.path()),
        ["sock"],
        "nothing but the socket is left lying about"
    );
    let directory = server.stop().await;
    assert_eq!(entries(directory.path()), Vec::<String>::new());
}

#[rstest]
#[case::closed(true)]
#[case::left_open(false)]
#[tokio::test]
async fn one_line_is_answered_whether_or_not_the_client_closes_its_side(#[case] close: bool) {
    let server = Server::start();
    assert_eq!(server.talk("chunk-size=?\n", close).await, "1000\n");
    server.stop().await;
}

#[tokio::test]
async fn several_lines_are_answered_in_order_and_the_last_may_lack_its_end() {
    let server = Server::start();
    assert_eq!(
        server
            .talk("chunk-size=?\r\nbrew\n\nmax-lag-millis=?", true)
            .await,
        "1000\nunknown command: brew\n1500\n"
    );
    server.stop().await;
}

/// The answer was lost when the process ended first.
#[tokio::test]
async fn whoever_ends_it_is_answered() {
    let server = Server::start();
    let answer = server.talk("panic=orders\n", false).await;
    assert!(answer.contains("aborted without cleanup"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn many_clients_are_served_at_once() {
    let server = Arc::new(Server::start());
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.talk("chunk-size=?\n", true).await })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), "1000\n");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_nobody() {
    let server = Server::start();
    let _silent = BlockingStream::connect(server.path()).unwrap();
    assert_eq!(server.talk("chunk-size=?\n", true).await, "1000\n");
    server.stop().await;
}

#[tokio::test]
async fn garbage_and_endless_lines_are_answered_and_bounded() {
    let server = Server::start();
    let answer = server
        .talk(vec![0xff, 0x00, 0x1b, b'[', b'2', b'J', b'\n'], true)
        .await;
    assert!(answer.starts_with("unknown command: "), "{answer:?}");
    assert!(!answer.contains('\u{1b}') && !answer.contains('\0'), "{answer:?}");
    let answer = server.talk(vec![b'x'; 1 << 20], true).await;
    assert!(
        answer.is_empty() || answer == "a command is at most 16384 bytes long\n",
        "{answer:?}"
    );
    assert_eq!(server.talk("chunk-size=?\n", true).await, "1000\n");
    server.stop().await;
}

#[tokio::test]
async fn a_command_reaches_the_migration() {
    let server = Server::start();
    let answer = server.talk("chunk-size=77\n", true).await;
    assert!(answer.contains("# chunk-size: 77;"), "{answer}");
    assert_eq!(
        *server.migration.told.lock().unwrap(),
        vec![ControlCommand::ChunkSize(77)]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_living_migrations_socket_is_left_alone() {
    let server = Server::start();
    let error = CommandSocket::bind(&server.path(), false).unwrap_err();
    assert!(matches!(error, SocketError::InUse(_)));
    assert!(error.to_string().contains("--initially-drop-socket-file"));
    assert_eq!(server.talk("chunk-size=?\n", true).await, "1000\n");
    // Told to, it is taken; the first migration does not remove what is no longer its own.
    let second = CommandSocket::bind(&server.path(), true).unwrap();
    let directory = server.stop().await;
    assert_eq!(entries(directory.path()), ["sock"]);
    drop(second);
    assert_eq!(entries(directory.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_dead_migrations_socket_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    drop(BlockingListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = CommandSocket::bind(&path, false).unwrap();
    assert_eq!(entries(directory.path()), ["sock"]);
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_not_a_socket_is_never_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sock");
    fs::write(&path, "precious").unwrap();
    for take_over in [false, true] {
        assert!(matches!(
            CommandSocket::bind(&path, take_over),
            Err(SocketError::NotASocket(_))
        ));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_place_where_no_socket_can_be_is_named() {
    let error = CommandSocket::bind(Path::new("/nowhere/at/all/sock"), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/at/all/sock") && error.contains("--serve-socket-file"),
        "{error}"
    );
    let long = tempfile::tempdir().unwrap().path().join("x".repeat(120));
    assert!(CommandSocket::bind(&long, false).is_err());
}

#[tokio::test]
async fn the_client_gets_its_answers_and_finds_mistakes_itself() {
    let server = Server::start();
    let path = server.path();
    spawn_blocking(move || {
        let commands = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            client::tell(&path, &commands(&["chunk-size=?", "coordinates"])).unwrap(),
            "1000\nbin.000069:5961\n"
        );
        let error = client::tell(&path, &commands(&["chunk-size=5", "statsu"]))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "unknown command: statsu");
        assert!(client::tell(&path, &commands(&["a\nb"])).is_err());
        let error = client::tell(Path::new("/nowhere/s"), &commands(&["sup"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no migration answers on /nowhere/s"), "{error}");
    })
    .await
    .unwrap();
    assert!(server.migration.told.lock().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
    let socket = CommandSocket::bind(&directory.path().join("gh-ost.a.b.sock"), false).unwrap();
    assert_eq!(
        fs::metadata(socket.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
