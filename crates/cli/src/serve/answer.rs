//! Answers to interactive commands, in gh-ost's words.

use changeling_applier::control::grammar::{self, CommandRules, Order, Parsed, Question};
use changeling_applier::control::{ControlCommand, ControlReply, operand};
use changeling_applier::progress::MigrationState;

use super::Control;
use crate::render::status::{self, Scene};

/// gh-ost's warning when somebody pauses a migration.
const THROTTLE_NOTE: &str = "# Note: you may only throttle for as long as your binary logs are not purged\n";

/// What `help` answers.
pub const HELP: &str = "\
available commands:
status                               # Print a detailed status message (also: info)
sup                                  # Print a short status message
coordinates                          # Print the position in the binary log
applier                              # Print the server that is written to
inspector                            # Print the server whose schema and binary log are read
chunk-size=<rows>                    # Copy chunks of this size from now on, 10 to 100000
dml-batch-size=<rows>                # Bring over so many changed rows in one statement, 1 to 1000
nice-ratio=<ratio>                   # Sleep after each chunk, in durations of that chunk: 0 to 100
max-lag-millis=<milliseconds>        # Pause above this lag, at least 100
max-load=<variable=number,...>       # Pause at or above these status values
critical-load=<variable=number,...>  # Stop for good at or above these status values
throttle-query=<query>               # Pause while this query's result is above 0
throttle-control-replicas=<hosts>    # Guard the lag of these replicas
throttle[=<table>]                   # Pause (also: pause, suspend)
no-throttle[=<table>]                # Go on, if nothing else throttles (also: unthrottle, resume, continue)
postpone-cut-over-flag-file=<path>   # Create this file and do not swap while it exists
unpostpone[=<table>]                 # Swap although the flag file exists (also: no-postpone, cut-over)
panic[=<table>]                      # Stop now, leave all tables as they are
help                                 # This message
- use '?' (question mark) as argument to get info rather than set. e.g. \"max-load=?\" will just print out current max-load.
";

/// Answers one line. The answer is empty or ends in a line end.
pub async fn answer(line: &str, control: &impl Control, rules: &CommandRules, scene: &Scene) -> String {
    match grammar::parse(line) {
        Parsed::Nothing => String::new(),
        Parsed::Help => HELP.to_owned(),
        Parsed::Refused(reason) => format!("{reason}\n"),
        Parsed::Ask(question) => tell(question, &control.state(), scene),
        Parsed::Order(order) => obey(order, control, rules, scene).await,
    }
}

fn tell(question: Question, state: &MigrationState, scene: &Scene) -> String {
    let settings = &state.settings;
    match question {
        Question::Status => block(state, scene),
        Question::Progress => format!("{}\n", status::line(state)),
        Question::Coordinates => format!("{}\n", state.coordinates),
        Question::Applier => server(&state.applier.address, &state.applier.version),
        Question::Inspector => server(&state.inspector.address, &state.inspector.version),
        Question::ChunkSize => format!("{}\n", settings.chunk_size),
        Question::DmlBatchSize => format!("{}\n", settings.dml_batch_size),
        Question::MaxLag => format!("{}\n", settings.max_lag.as_millis()),
        Question::NiceRatio => format!("{}\n", settings.nice_ratio),
        Question::MaxLoad => format!("{}\n", operand::load_limits_text(&settings.max_load)),
        Question::CriticalLoad => format!("{}\n", operand::load_limits_text(&settings.critical_load)),
        Question::ThrottleQuery => format!("{}\n", settings.throttle_query.as_deref().unwrap_or_default()),
        Question::ThrottleHttp => "\n".to_owned(),
        Question::ControlReplicas => format!("{}\n", settings.control_replicas.join(",")),
        Question::PostponeFlagFile => {
            format!("{}\n", settings.postpone_flag_file.as_deref().unwrap_or_default())
        }
    }
}

fn server(address: &str, version: &str) -> String {
    format!("Host: {address}, Version: {version}\n")
}

/// Settings and progress, as `status` shows them.
fn block(state: &MigrationState, scene: &Scene) -> String {
    format!(
        "{}{}\n",
        status::hint(state, &scene.with_flag_files(state)),
        status::line(state)
    )
}

async fn obey(order: Order, control: &impl Control, rules: &CommandRules, scene: &Scene) -> String {
    if let Err(reason) = order.permitted(rules, control.state().phase) {
        return format!("{reason}\n");
    }
    tracing::info!("Command: {:?}", order.command);
    let command = order.command.clone();
    match control.command(order.command).await {
        ControlReply::Refused(reason) => format!("{reason}\n"),
        ControlReply::Done(state) => format!(
            "{}{}",
            preface(&command, &state),
            closing(&command, &state, scene)
        ),
    }
}

/// What gh-ost says before the block.
fn preface(command: &ControlCommand, state: &MigrationState) -> String {
    match command {
        ControlCommand::Throttle | ControlCommand::ThrottleQuery(_) => THROTTLE_NOTE.to_owned(),
        ControlCommand::ControlReplicas(_) => format!("{}\n", state.settings.control_replicas.join(",")),
        ControlCommand::Unpostpone => "Unpostponed\n".to_owned(),
        ControlCommand::Postpone(_) => "Postponed\n".to_owned(),
        _ => String::new(),
    }
}

fn closing(command: &ControlCommand, state: &MigrationState, scene: &Scene) -> String {
    if *command == ControlCommand::Panic {
        return "user commanded 'panic'. The migration will be aborted without cleanup. All tables stay as they are\n"
            .to_owned();
    }
    block(state, scene)
}
