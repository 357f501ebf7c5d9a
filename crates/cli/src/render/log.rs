//! The log on standard error: gh-ost's `YYYY-MM-DD hh:mm:ss LEVEL text`, or one JSON object a line.

use std::fmt;

use jiff::Zoned;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::screen::Screen;

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// From which level on.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
    /// `--stack`: an error's causes one a line.
    pub causes: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: LogLevel::Error,
            format: LogFormat::Text,
            causes: false,
        }
    }
}

/// gh-ost's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Why the program ends. Always shown.
    Fatal,
    /// Something failed.
    Error,
    /// Something to know.
    Warning,
    /// What is going on.
    Info,
    /// Everything.
    Debug,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        })
    }
}

impl From<&Level> for LogLevel {
    fn from(level: &Level) -> Self {
        match *level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// gh-ost's.
    Text,
    /// JSON.
    Json,
}

/// Sends this process's log to the screen. The second call of a process does nothing.
pub fn install(settings: LogSettings, screen: &Screen) {
    let own = match settings.level {
        LogLevel::Fatal | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // Libraries tell us nothing that an operator wants to know below a warning.
    let libraries = own.min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(libraries)
        .with_target("changeling", own)
        // The driver logs each error that it also returns; those that are tried again are no news.
        .with_target("mysql_async", LevelFilter::OFF);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(screen.clone())
        .event_format(LineFormat {
            format: settings.format,
        });
    let _ = registry.with(lines).try_init();
}

/// One line of the log, with its line end.
#[must_use]
pub fn line(format: LogFormat, at: &Zoned, level: LogLevel, text: &str) -> String {
    match format {
        LogFormat::Text => format!("{} {level} {text}\n", at.strftime("%Y-%m-%d %H:%M:%S")),
        LogFormat::Json => {
            let line = serde_json::json!({
                "time": at.timestamp().to_string(),
                "level": level.to_string(),
                "message": text,
            });
            format!("{line}\n")
        }
    }
}

/// An error with its causes: in one line, or one a line.
#[must_use]
pub fn error_text(error: &anyhow::Error, causes: bool) -> String {
    if !causes {
        return error.chain().skip(1).filter(|cause| !is_told(*cause)).fold(
            error.to_string(),
            |mut text, cause| {
                let cause = cause.to_string();
                if !text.contains(&cause) {
                    text.push_str(": ");
                    text.push_str(&cause);
                }
                text
            },
        );
    }
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n    caused by: {cause}"));
    }
    text
}

/// The driver's words are in those of the error that has it as its cause.
fn is_told(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<mysql_async::Error>()
        || cause.is::<mysql_async::ServerError>()
        || cause.is::<mysql_async::IoError>()
        || cause.is::<mysql_async::DriverError>()
}

struct LineFormat {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = EventText::default();
        event.record(&mut text);
        let level = LogLevel::from(event.metadata().level());
        writer.write_str(&line(self.format, &Zoned::now(), level, &text.finish()))
    }
}

/// The message, then the fields as `name=value`.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl EventText {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push_str(&format!(" {}={value:?}", field.name()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.fields.push_str(&format!(" {}={value}", field.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn at() -> Zoned {
        jiff::Timestamp::from_second(1_700_000_000)
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    #[test]
    fn a_line_is_gh_osts() {
        assert_eq!(
            line(LogFormat::Text, &at(), LogLevel::Fatal, "no such table"),
            "2023-11-14 22:13:20 FATAL no such table\n"
        );
        assert!(line(LogFormat::Text, &at(), LogLevel::Warning, "x").contains(" WARNING x"));
    }

    #[test]
    fn a_json_line_is_one_object() {
        let text = line(LogFormat::Json, &at(), LogLevel::Info, "two\n\"lines\"");
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "INFO");
        assert_eq!(value["message"], "two\n\"lines\"");
        assert_eq!(value["time"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn causes_are_shown_in_one_line_or_in_many() {
        let error = anyhow::anyhow!("connection refused").context("cannot reach db1:3306");
        assert_eq!(
            error_text(&error, false),
            "cannot reach db1:3306: connection refused"
        );
        assert_eq!(
            error_text(&error, true),
            "cannot reach db1:3306\n    caused by: connection refused"
        );
    }

    #[test]
    fn an_event_is_its_message_and_its_fields() {
        let screen = Screen::captured();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(screen.clone())
            .event_format(LineFormat {
                format: LogFormat::Text,
            });
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(table = "orders", rows = 5, "chunk was slow");
        });
        let (_, errors) = screen.captured_text();
        assert!(
            errors.ends_with("WARNING chunk was slow table=orders rows=5\n"),
            "{errors}"
        );
    }
}
