//! What is seen of a demo while it runs: a line for each part that is done, and a bar for the one that is not.
//!
//! Without a terminal there is no bar, and no colour; then a line says every few seconds how far it is.

use std::future::Future;
use std::time::{Duration, Instant};

use super::stage::Stage;
use super::summary::{self, DemoSummary};
use crate::args::demo::DemoArgs;
use crate::render::progress::{BarView, count};
use crate::render::screen::{ProgressMode, Screen};

/// How often a line says how far it is, where there is no bar.
const LINE: Duration = Duration::from_secs(2);
/// How often a bar is moved that only shows time passing.
const TICK: Duration = Duration::from_millis(200);

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// For a terminal.
    Ansi,
    /// For everything else.
    Plain,
}

impl Paint {
    /// For what must be seen first.
    pub(super) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what is only there to be found.
    pub(super) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// For good news.
    pub(super) fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// For bad news.
    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// The show.
pub(super) struct Show {
    screen: Screen,
    paint: Paint,
    said: Option<Instant>,
    part: String,
    reached: Instant,
}

impl Show {
    /// Says what is going to happen.
    pub(super) fn begin(screen: &Screen, arguments: &DemoArgs) -> Self {
        let colours =
            screen.output_is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let paint = if colours { Paint::Ansi } else { Paint::Plain };
        let show = Self {
            screen: screen.clone(),
            paint,
            said: None,
            part: String::new(),
            reached: Instant::now(),
        };
        show.print(&opening(arguments, paint));
        screen.show_bar(ProgressMode::Auto);
        show
    }

    /// A part has begun of which nobody knows how far it is.
    pub(super) fn waiting(&mut self, part: &str, text: &str) {
        self.said = None;
        self.part = format!("{part}: {text}");
        self.tick(Instant::now());
    }

    /// Lets time be seen passing while something is waited for.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => self.tick(began),
            }
        }
    }

    fn tick(&mut self, began: Instant) {
        let seconds = began.elapsed().as_secs();
        let text = if seconds == 0 {
            self.part.clone()
        } else {
            format!("{} · {seconds} s", self.part)
        };
        // A bar that runs to and fro would say as much as none.
        self.screen.update_bar_text(&format!("  … {text}"));
        self.line(&text);
    }

    /// A part of which is known how far it is.
    pub(super) fn moving(&mut self, part: &'static str, position: u64, length: u64, text: &str) {
        let percent = 100.0 * position.min(length) as f64 / length.max(1) as f64;
        let message = format!("{percent:.0}% · {text}");
        self.screen.update_bar(&BarView {
            phase: part,
            position,
            length,
            message: message.clone(),
        });
        self.line(&format!("{part}: {message}"));
    }

    fn line(&mut self, text: &str) {
        if self.screen.wants_status_lines() && self.said.is_none_or(|said| said.elapsed() >= LINE) {
            self.said = Some(Instant::now());
            self.print(&format!("  …          {text}\n"));
        }
    }

    /// A part is done.
    pub(super) fn done(&mut self, took: Duration, part: &str, text: &str) {
        let took = format!("{:>5.1} s", took.as_secs_f64());
        let (mark, took) = (self.paint.good("✓"), self.paint.faint(&took));
        let part = self.paint.strong(&format!("{part:<10}"));
        self.print(&format!("  {mark} {took}  {part} {text}\n"));
        self.said = None;
        self.reached = Instant::now();
    }

    /// A part is done that began when the one before it was.
    pub(super) fn milestone(&mut self, part: &str, text: &str) {
        self.done(self.reached.elapsed(), part, text);
    }

    /// Something to know.
    pub(super) fn note(&mut self, name: &str, text: &str) {
        let name = self.paint.strong(&format!("{name:<10}"));
        let text = self
            .paint
            .faint(&text.replace('\n', "\n                        "));
        self.print(&format!("             {name} {text}\n"));
        self.reached = Instant::now();
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.screen.hide_bar();
    }

    /// What was found.
    pub(super) fn summary(&self, found: &DemoSummary) {
        self.print(&summary::text(found, self.paint));
    }

    /// How to reach the server that is still there.
    pub(super) fn kept(&self, stage: &Stage) {
        let [client, migration] = stage.address();
        self.print(&format!(
            "\n  {} until Ctrl-C. Look at it, or change the table once more:\n\n    {client}\n    {migration}\n\n",
            self.paint.strong("The server keeps running")
        ));
    }

    /// Why there is no summary.
    pub(super) fn failed(&self, error: &anyhow::Error) {
        self.print(&format!("\n  {} {error:#}\n", self.paint.bad("FAILED")));
    }

    /// The end by a signal.
    pub(super) fn interrupted(&self) {
        self.screen.hide_bar();
        self.print("\n  Stopped; the server is being removed.\n");
    }

    fn print(&self, text: &str) {
        self.screen.print(text);
    }
}

/// What is going to happen.
fn opening(arguments: &DemoArgs, paint: Paint) -> String {
    let DemoArgs {
        rows,
        writers,
        rate,
        flavor,
        ..
    } = arguments;
    let pace = match rate {
        0 => "as fast as they can".to_owned(),
        rate => format!("at most {} transactions/s", count(u64::from(*rate))),
    };
    let title = paint.strong("changeling demo");
    format!(
        "\n  {title}  a table changes its shape while it is being written to\n\n\
         \x20 1. A {flavor} server of its own gets a table of {} rows.\n\
         \x20 2. {writers} writers insert, update, delete, change keys and swap unique values ({pace});\n\
         \x20    each remembers what it committed.\n\
         \x20 3. The rows are copied into a new table. For a row that changes meanwhile the binary log only says\n\
         \x20    which one: the server then makes new[key] = old[key], so no value passes through this program.\n\
         \x20 4. Every row is proven equal, the tables are swapped under the writers, and at the end every row\n\
         \x20    is compared with what the writers remember.\n\n",
        count(*rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::demo::Flavor;

    fn arguments() -> DemoArgs {
        DemoArgs {
            rows: 500_000,
            writers: 4,
            rate: 400,
            flavor: Flavor::Mysql,
            keep: false,
        }
    }

    #[test]
    fn the_opening_fits_a_terminal() {
        let text = opening(&arguments(), Paint::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn without_a_terminal_lines_say_how_far_it_is_and_nothing_is_coloured() {
        let screen = Screen::captured();
        let mut show = Show::begin(&screen, &arguments());
        show.waiting("server", "MySQL 9.7");
        show.done(Duration::from_millis(1900), "server", "MySQL 9.7.4");
        show.moving("copying", 1, 4, "1 of 4 rows");
        show.moving("copying", 2, 4, "2 of 4 rows");
        show.note("change", "ADD COLUMN x int");
        show.end();
        let (output, errors) = screen.captured_text();
        let tail: Vec<_> = output.lines().skip_while(|line| !line.contains('…')).collect();
        assert_eq!(
            tail,
            [
                "  …          server: MySQL 9.7",
                "  ✓   1.9 s  server     MySQL 9.7.4",
                "  …          copying: 25% · 1 of 4 rows",
                "             change     ADD COLUMN x int",
            ]
        );
        assert!(errors.is_empty() && !output.contains('\x1b'));
    }

    #[test]
    fn a_terminal_gets_colours() {
        assert_eq!(Paint::Ansi.good("✓"), "\x1b[1;32m✓\x1b[0m");
        assert_eq!(Paint::Plain.bad("x"), "x");
    }
}
