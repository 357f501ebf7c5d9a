//! Where everything is written: standard output, standard error, and a progress bar that neither garbles.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use tracing_subscriber::fmt::MakeWriter;

use super::progress::{self, BarView};

/// Whether a progress bar is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// When standard output and standard error are a terminal.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// The screen. Clones are the same screen.
#[derive(Clone)]
pub struct Screen {
    shared: Arc<Shared>,
}

struct Shared {
    output: Sink,
    errors: Sink,
    bar: Mutex<Option<ProgressBar>>,
    output_is_terminal: bool,
    errors_are_terminal: bool,
}

enum Sink {
    Output,
    Errors,
    Captured(Mutex<Vec<u8>>),
}

impl Sink {
    /// A reader that has gone away is no reason to stop a migration.
    fn write(&self, text: &[u8]) {
        match self {
            Self::Output => {
                let mut output = io::stdout().lock();
                let _ = output.write_all(text).and_then(|()| output.flush());
            }
            Self::Errors => {
                let _ = io::stderr().lock().write_all(text);
            }
            Self::Captured(buffer) => {
                buffer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(text);
            }
        }
    }
}

impl Screen {
    /// This process's standard output and standard error.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(
            Sink::Output,
            Sink::Errors,
            io::stdout().is_terminal(),
            io::stderr().is_terminal(),
        )
    }

    /// A screen that only remembers, for tests.
    #[must_use]
    pub fn captured() -> Self {
        let buffer = || Sink::Captured(Mutex::new(Vec::new()));
        Self::new(buffer(), buffer(), false, false)
    }

    fn new(output: Sink, errors: Sink, output_is_terminal: bool, errors_are_terminal: bool) -> Self {
        let bar = Mutex::new(None);
        Self {
            shared: Arc::new(Shared {
                output,
                errors,
                bar,
                output_is_terminal,
                errors_are_terminal,
            }),
        }
    }

    /// What a [captured](Self::captured) screen has got: output, errors.
    #[must_use]
    pub fn captured_text(&self) -> (String, String) {
        let text = |sink: &Sink| match sink {
            Sink::Captured(buffer) => {
                String::from_utf8_lossy(&buffer.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
            }
            _ => String::new(),
        };
        (text(&self.shared.output), text(&self.shared.errors))
    }

    /// Begins with a progress bar, if this screen is to have one.
    pub fn show_bar(&self, mode: ProgressMode) {
        let terminal = self.shared.output_is_terminal && self.shared.errors_are_terminal;
        let wanted = mode == ProgressMode::Always || (mode == ProgressMode::Auto && terminal);
        if !wanted {
            return;
        }
        let target = if self.shared.errors_are_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::term_like(Box::new(PlainTerminal { screen: self.clone() }))
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        // All of it is the message: set in parts, the bar would be drawn in between with half of them old.
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        *self.bar() = Some(bar);
    }

    /// Whether status lines are wanted: the bar says the same to a person, and scripts read standard output.
    #[must_use]
    pub fn wants_status_lines(&self) -> bool {
        self.bar().is_none() || !self.shared.output_is_terminal
    }

    /// Whether standard output is a terminal, and may be coloured.
    #[must_use]
    pub fn output_is_terminal(&self) -> bool {
        self.shared.output_is_terminal
    }

    /// Shows a text in the bar's place, if there is one: for work of which nobody knows how far it is.
    pub fn update_bar_text(&self, text: &str) {
        if let Some(bar) = self.bar().as_ref() {
            bar.set_message(text.to_owned());
        }
    }

    /// Moves the bar, if there is one.
    pub fn update_bar(&self, view: &BarView) {
        if let Some(bar) = self.bar().as_ref() {
            bar.set_message(progress::line(view));
        }
    }

    /// Takes the bar away.
    pub fn hide_bar(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    /// Writes to standard output.
    pub fn print(&self, text: &str) {
        self.beside_bar(|| self.shared.output.write(text.as_bytes()));
    }

    /// Writes to standard error.
    pub fn complain(&self, text: &str) {
        self.beside_bar(|| self.shared.errors.write(text.as_bytes()));
    }

    fn beside_bar(&self, write: impl FnOnce()) {
        let bar = self.bar().clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.shared.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter { screen: self.clone() }
    }
}

/// Writes log lines to standard error, beside the bar.
pub struct LogWriter {
    screen: Screen,
}

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.screen.beside_bar(|| self.screen.shared.errors.write(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `--progress always` without a terminal: one line after the other.
struct PlainTerminal {
    screen: Screen,
}

impl std::fmt::Debug for PlainTerminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlainTerminal")
    }
}

impl TermLike for PlainTerminal {
    fn width(&self) -> u16 {
        120
    }

    fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        if !text.trim().is_empty() {
            self.screen.shared.errors.write(text.trim_end().as_bytes());
            self.screen.shared.errors.write(b"\n");
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(message: &str) -> BarView {
        BarView {
            phase: "copying",
            position: 1,
            length: 2,
            message: message.into(),
        }
    }

    #[test]
    fn there_is_no_bar_where_there_is_no_terminal() {
        let screen = Screen::captured();
        screen.show_bar(ProgressMode::Auto);
        assert!(screen.bar().is_none());
        screen.update_bar(&view("x"));
        screen.print("line\n");
        assert_eq!(screen.captured_text(), ("line\n".into(), String::new()));
    }

    #[test]
    fn a_forced_bar_leaves_status_lines_to_scripts() {
        let screen = Screen::captured();
        screen.show_bar(ProgressMode::Always);
        assert!(screen.wants_status_lines());
        screen.update_bar(&view("half of it"));
        screen.complain("2023-11-14 22:13:20 ERROR x\n");
        screen.hide_bar();
        let (output, errors) = screen.captured_text();
        assert!(output.is_empty());
        assert!(
            errors.lines().any(|line| line == "2023-11-14 22:13:20 ERROR x"),
            "{errors}"
        );
        assert!(errors.contains("half of it"), "{errors}");
    }
}
