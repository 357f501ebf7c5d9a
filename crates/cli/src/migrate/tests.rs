use std::sync::Arc;

use changeling_applier::progress::Ending;
use tokio::sync::Notify;

use super::*;
use crate::render::status::tests::sample;
use crate::serve::tests::rules;

/// A migration that ends when it is told to.
#[derive(Clone)]
struct Double {
    states: watch::Sender<MigrationState>,
    end: Arc<Notify>,
    ending: fn() -> anyhow::Result<Ending>,
}

impl Double {
    fn new(ending: fn() -> anyhow::Result<Ending>) -> Self {
        Self {
            states: watch::Sender::new(sample()),
            end: Arc::new(Notify::new()),
            ending,
        }
    }
}

impl Control for Double {
    fn state(&self) -> MigrationState {
        self.states.borrow().clone()
    }

    async fn command(&self, command: ControlCommand) -> ControlReply {
        if command == ControlCommand::Panic {
            self.end.notify_one();
        }
        ControlReply::Done(Box::new(self.state()))
    }
}

impl Running for Double {
    fn states(&self) -> watch::Receiver<MigrationState> {
        self.states.subscribe()
    }

    fn stop(&self) {
        self.end.notify_one();
    }

    async fn outcome(&self) -> anyhow::Result<MigrationSummary> {
        self.end.notified().await;
        Ok(MigrationSummary {
            state: self.state(),
            ending: (self.ending)()?,
        })
    }
}

async fn attended(double: Double, meanwhile: impl Future<Output = ()>) -> (anyhow::Result<Ended>, String) {
    let directory = tempfile::tempdir().unwrap();
    let socket = CommandSocket::bind(&directory.path().join("s"), false).unwrap();
    let path = socket.path().to_owned();
    let screen = Screen::captured();
    let signals = Signals::listen().unwrap();
    let (ended, ()) = tokio::join!(attend(double, socket, rules(), signals, &screen), meanwhile);
    assert!(!path.exists(), "the socket goes with the migration");
    (ended, screen.captured_text().0)
}

#[tokio::test]
async fn a_migration_that_ends_well_says_so_last() {
    let double = Double::new(|| Ok(Ending::Swapped));
    let end = Arc::clone(&double.end);
    let (ended, output) = attended(double, async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        end.notify_one();
    })
    .await;
    assert!(matches!(ended, Ok(Ended::Success)));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[0],
        "# Migrating `shop`.`orders`; Ghost table is `shop`.`_orders_gho`"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("Copy: 4600/7528 61.1%"))
            .count(),
        2,
        "{output}"
    );
    assert_eq!(lines.last(), Some(&"# Done"));
}

#[tokio::test]
async fn a_migration_that_fails_is_not_done() {
    let double = Double::new(|| anyhow::bail!("table is gone"));
    let end = Arc::clone(&double.end);
    let (ended, output) = attended(double, async move { end.notify_one() }).await;
    assert_eq!(ended.unwrap_err().to_string(), "table is gone");
    assert!(!output.contains("# Done"));
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be() {
    let double = Double::new(|| {
        Ok(Ending::DryRun {
            ghost_definition: "CREATE TABLE x".into(),
            plan: vec!["chosen key: PRIMARY".into()],
        })
    });
    let end = Arc::clone(&double.end);
    let (_, output) = attended(double, async move { end.notify_one() }).await;
    assert!(output.ends_with(
        "CREATE TABLE x\n# chosen key: PRIMARY\n# Nothing was changed; add --execute to do it\n# Done\n"
    ));
}

#[tokio::test]
async fn until_the_tables_are_known_there_is_nothing_to_tell() {
    let screen = Screen::captured();
    let scene = Scene::here(std::path::Path::new("/tmp/s"));
    let mut reporter = Reporter::new();
    reporter.show(&MigrationState::default(), &scene, &screen);
    assert!(screen.captured_text().0.is_empty());
    reporter.show(&sample(), &scene, &screen);
    reporter.show(&sample(), &scene, &screen);
    let output = screen.captured_text().0;
    assert_eq!(
        output.lines().filter(|line| line.starts_with("Copy: ")).count(),
        1,
        "{output}"
    );
}
