//! The interactive command language: one line, `command` or `command=argument`, as gh-ost's socket takes it.
//!
//! [`parse`] is pure. Whoever owns a transport asks it what a line means, answers a [`Question`] from the
//! migration's state, and sends an [`Order`] on after [`Order::permitted`] has agreed.

use std::path::PathBuf;
use std::time::Duration;

use super::{ControlCommand, limits, operand};
use crate::progress::Phase;
use crate::settings::Permission;

/// What a line means.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// An empty line.
    Nothing,
    /// `help`.
    Help,
    /// Something to be told about the migration.
    Ask(Question),
    /// Something for the migration to do.
    Order(Order),
    /// Not a command, or not a good one; the text is the answer.
    Refused(String),
}

/// What can be asked; all of it is in the migration's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `status`, `info`: settings and progress.
    Status,
    /// `sup`: progress.
    Progress,
    /// `coordinates`.
    Coordinates,
    /// `applier`: the server that is written to.
    Applier,
    /// `inspector`: the server that is read.
    Inspector,
    /// `chunk-size=?`.
    ChunkSize,
    /// `dml-batch-size=?`.
    DmlBatchSize,
    /// `max-lag-millis=?`.
    MaxLag,
    /// `nice-ratio=?`.
    NiceRatio,
    /// `max-load=?`.
    MaxLoad,
    /// `critical-load=?`.
    CriticalLoad,
    /// `throttle-query=?`.
    ThrottleQuery,
    /// `throttle-http=?`.
    ThrottleHttp,
    /// `throttle-control-replicas=?`.
    ControlReplicas,
    /// `postpone-cut-over-flag-file=?`.
    PostponeFlagFile,
}

/// A command, and the table that the operator said it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What to do.
    pub command: ControlCommand,
    /// The table named after the command, a courtesy check against the wrong socket.
    pub target: Option<String>,
}

/// What the migration at the other end expects of orders.
#[derive(Clone, Debug)]
pub struct CommandRules {
    /// The table being migrated, without its schema.
    pub table: String,
    /// `--force-named-cut-over`.
    pub named_cut_over: Permission,
    /// `--force-named-panic`.
    pub named_panic: Permission,
}

impl Order {
    fn plain(command: ControlCommand) -> Parsed {
        Parsed::Order(Self {
            command,
            target: None,
        })
    }

    fn named(command: ControlCommand, argument: &str) -> Parsed {
        let target = (!argument.is_empty()).then(|| argument.to_owned());
        Parsed::Order(Self { command, target })
    }

    /// Whether the order may be sent on: it names no other table, names this one where it must, and comes at
    /// a time when it means something.
    ///
    /// # Errors
    /// The answer to the operator.
    pub fn permitted(&self, rules: &CommandRules, phase: Phase) -> Result<(), String> {
        let (verb, name_required, flag) = match self.command {
            ControlCommand::Throttle => ("throttle", false, ""),
            ControlCommand::NoThrottle => ("no-throttle", false, ""),
            ControlCommand::Unpostpone => (
                "unpostpone",
                rules.named_cut_over.granted(),
                "--force-named-cut-over",
            ),
            ControlCommand::Panic => ("panic", rules.named_panic.granted(), "--force-named-panic"),
            _ => return Ok(()),
        };
        match &self.target {
            None if name_required => {
                return Err(format!(
                    "user commanded '{verb}' without specifying table name, but {flag} is set; say {verb}={}",
                    rules.table
                ));
            }
            Some(target) if *target != rules.table => {
                return Err(format!(
                    "user commanded '{verb}' on {target}, but migrated table is {}; ignoring request",
                    rules.table
                ));
            }
            _ => {}
        }
        if self.command == ControlCommand::Unpostpone && phase != Phase::Postponing {
            return Err(
                "You may only invoke this when actively postponing migration. At this time it is not.".into(),
            );
        }
        Ok(())
    }
}

/// Reads one line.
#[must_use]
pub fn parse(line: &str) -> Parsed {
    let (command, argument) = match line.split_once('=') {
        Some((command, argument)) => (command.trim(), unquote(argument.trim())),
        None => (line.trim(), String::new()),
    };
    let argument = argument.as_str();
    match command {
        "" if line.trim().is_empty() => Parsed::Nothing,
        "help" => Parsed::Help,
        "status" | "info" => Parsed::Ask(Question::Status),
        "sup" => Parsed::Ask(Question::Progress),
        "coordinates" if argument.is_empty() || argument == "?" => Parsed::Ask(Question::Coordinates),
        "coordinates" => Parsed::Refused("coordinates are read-only".into()),
        "applier" => Parsed::Ask(Question::Applier),
        "inspector" => Parsed::Ask(Question::Inspector),
        "throttle" | "pause" | "suspend" => Order::named(ControlCommand::Throttle, argument),
        "no-throttle" | "unthrottle" | "resume" | "continue" => {
            Order::named(ControlCommand::NoThrottle, argument)
        }
        "unpostpone" | "no-postpone" | "cut-over" => Order::named(ControlCommand::Unpostpone, argument),
        "panic" => Order::named(ControlCommand::Panic, argument),
        "replication-lag-query" => Parsed::Refused(
            "replication-lag-query is deprecated. Lag is read from a heartbeat row, at sub-second resolution; \
             see max-lag-millis"
                .into(),
        ),
        "cpu-profile" => Parsed::Refused(
            "cpu-profile is not available: there is no Go profiler in this program. Profile it from outside, \
             for example with perf record -p PID"
                .into(),
        ),
        _ => setting(command, argument),
    }
}

/// `name=value` and `name=?`.
fn setting(command: &str, argument: &str) -> Parsed {
    let question = match command {
        "chunk-size" => Question::ChunkSize,
        "dml-batch-size" => Question::DmlBatchSize,
        "max-lag-millis" => Question::MaxLag,
        "nice-ratio" => Question::NiceRatio,
        "max-load" => Question::MaxLoad,
        "critical-load" => Question::CriticalLoad,
        "throttle-query" => Question::ThrottleQuery,
        "throttle-http" => Question::ThrottleHttp,
        "throttle-control-replicas" => Question::ControlReplicas,
        "postpone-cut-over-flag-file" => Question::PostponeFlagFile,
        _ => return Parsed::Refused(format!("unknown command: {}", printable(command))),
    };
    if argument == "?" {
        return Parsed::Ask(question);
    }
    match change(question, argument) {
        Ok(command) => Order::plain(command),
        Err(reason) => Parsed::Refused(format!("{command}: {reason}")),
    }
}

fn change(question: Question, argument: &str) -> Result<ControlCommand, String> {
    Ok(match question {
        Question::ChunkSize => {
            ControlCommand::ChunkSize(limits::clamp_whole(whole(argument)?, &limits::CHUNK_SIZE))
        }
        Question::DmlBatchSize => {
            let keys = limits::clamp_whole(whole(argument)?, &limits::DML_BATCH_SIZE);
            ControlCommand::DmlBatchSize(usize::try_from(keys).unwrap_or(usize::MAX))
        }
        Question::MaxLag => {
            let lag = Duration::from_millis(u64::try_from(whole(argument)?).unwrap_or(0));
            ControlCommand::MaxLag(lag.max(limits::MIN_MAX_LAG))
        }
        Question::NiceRatio => {
            ControlCommand::NiceRatio(limits::clamp_ratio(ratio(argument)?, &limits::NICE_RATIO))
        }
        Question::MaxLoad => ControlCommand::MaxLoad(operand::load_limits(argument)?),
        Question::CriticalLoad => ControlCommand::CriticalLoad(operand::load_limits(argument)?),
        Question::ThrottleQuery => {
            ControlCommand::ThrottleQuery((!argument.is_empty()).then(|| argument.to_owned()))
        }
        Question::ControlReplicas => ControlCommand::ControlReplicas(operand::hosts(argument)?),
        Question::PostponeFlagFile if argument.is_empty() => {
            return Err(
                "needs the path of the flag file, as in postpone-cut-over-flag-file=/tmp/hold".into(),
            );
        }
        Question::PostponeFlagFile => ControlCommand::Postpone(PathBuf::from(argument)),
        _ => return Err("not available in this release; use throttle-query or throttle-flag-file".into()),
    })
}

fn whole(argument: &str) -> Result<i64, String> {
    argument
        .parse()
        .map_err(|_| format!("{:?} is not a whole number", printable(argument)))
}

fn ratio(argument: &str) -> Result<f64, String> {
    argument
        .parse()
        .ok()
        .filter(|ratio: &f64| ratio.is_finite())
        .ok_or_else(|| format!("{:?} is not a number", printable(argument)))
}

/// Takes off quotes as Go's `strconv.Unquote` does, for what people type: "…" with simple escapes, or `…`.
fn unquote(argument: &str) -> String {
    let inner = |quote: char| {
        argument
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
    };
    if let Some(plain) = inner('`').filter(|plain| !plain.contains('`')) {
        return plain.to_owned();
    }
    inner('"')
        .and_then(unescape)
        .unwrap_or_else(|| argument.to_owned())
}

fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => text.push(match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            _ => text.push(character),
        }
    }
    Some(text)
}

/// What is repeated to the operator: no control characters, and not more than a line of it.
fn printable(text: &str) -> String {
    const SHOWN: usize = 100;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .map(|character| {
            if character.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn rules() -> CommandRules {
        CommandRules {
            table: "orders".into(),
            named_cut_over: Permission::Refused,
            named_panic: Permission::Refused,
        }
    }

    #[rstest]
    #[case("status", Parsed::Ask(Question::Status))]
    #[case(" info\r\n", Parsed::Ask(Question::Status))]
    #[case("sup", Parsed::Ask(Question::Progress))]
    #[case("coordinates=?", Parsed::Ask(Question::Coordinates))]
    #[case("chunk-size=?", Parsed::Ask(Question::ChunkSize))]
    #[case("throttle-http=?", Parsed::Ask(Question::ThrottleHttp))]
    #[case("help", Parsed::Help)]
    #[case("  ", Parsed::Nothing)]
    #[case("chunk-size=5", Order::plain(ControlCommand::ChunkSize(10)))]
    #[case("chunk-size= 2500 ", Order::plain(ControlCommand::ChunkSize(2500)))]
    #[case("chunk-size=99999999", Order::plain(ControlCommand::ChunkSize(100_000)))]
    #[case("chunk-size=-1", Order::plain(ControlCommand::ChunkSize(10)))]
    #[case("dml-batch-size=0", Order::plain(ControlCommand::DmlBatchSize(1)))]
    #[case(
        "max-lag-millis=5",
        Order::plain(ControlCommand::MaxLag(Duration::from_millis(100)))
    )]
    #[case("nice-ratio=0.7", Order::plain(ControlCommand::NiceRatio(0.7)))]
    #[case("nice-ratio=101", Order::plain(ControlCommand::NiceRatio(100.0)))]
    #[case("throttle-query=select a = b", Order::plain(ControlCommand::ThrottleQuery(Some("select a = b".into()))))]
    #[case("throttle-query=\"select 1\"", Order::plain(ControlCommand::ThrottleQuery(Some("select 1".into()))))]
    #[case("throttle-query=", Order::plain(ControlCommand::ThrottleQuery(None)))]
    #[case("pause", Order::named(ControlCommand::Throttle, ""))]
    #[case("continue=orders", Order::named(ControlCommand::NoThrottle, "orders"))]
    #[case("cut-over=orders", Order::named(ControlCommand::Unpostpone, "orders"))]
    #[case("postpone-cut-over-flag-file=/tmp/x", Order::plain(ControlCommand::Postpone("/tmp/x".into())))]
    fn a_line_means(#[case] line: &str, #[case] meaning: Parsed) {
        assert_eq!(parse(line), meaning);
    }

    #[rstest]
    #[case("make-tea", "unknown command: make-tea")]
    #[case("=x", "unknown command: ")]
    #[case("coordinates=1", "coordinates are read-only")]
    #[case("chunk-size=", "is not a whole number")]
    #[case("nice-ratio=NaN", "is not a number")]
    #[case("max-load=Threads_running", "Error parsing load condition")]
    #[case("throttle-http=http://x/", "not available in this release")]
    #[case("replication-lag-query=select 1", "deprecated")]
    #[case("cpu-profile=30s", "not available")]
    #[case("postpone-cut-over-flag-file=", "needs the path")]
    fn a_line_is_refused(#[case] line: &str, #[case] part: &str) {
        let Parsed::Refused(reason) = parse(line) else {
            panic!("{line} was taken")
        };
        assert!(reason.contains(part), "{reason}");
    }

    #[test]
    fn another_tables_name_is_refused() {
        let Parsed::Order(order) = parse("panic=customers") else {
            panic!()
        };
        let answer = order.permitted(&rules(), Phase::Copying).unwrap_err();
        assert_eq!(
            answer,
            "user commanded 'panic' on customers, but migrated table is orders; ignoring request"
        );
    }

    #[test]
    fn a_name_is_required_where_the_operator_said_so() {
        let strict = CommandRules {
            named_panic: Permission::Granted,
            ..rules()
        };
        let Parsed::Order(bare) = parse("panic") else {
            panic!()
        };
        assert!(
            bare.permitted(&strict, Phase::Copying)
                .unwrap_err()
                .contains("panic=orders")
        );
        assert!(bare.permitted(&rules(), Phase::Copying).is_ok());
    }

    #[test]
    fn the_cut_over_is_only_released_while_it_is_held() {
        let Parsed::Order(order) = parse("unpostpone") else {
            panic!()
        };
        assert!(order.permitted(&rules(), Phase::Copying).is_err());
        assert!(order.permitted(&rules(), Phase::Postponing).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_has_a_meaning_without_control_characters_in_the_answer(line in "\\PC*|[\\x00-\\x7f]*") {
            if let Parsed::Refused(reason) = parse(&line) {
                prop_assert!(!reason.chars().any(char::is_control), "{reason:?}");
                prop_assert!(reason.chars().count() < 400);
            }
        }
    }
}
