//! Values that have been checked, as [`MigrationSettings`].

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use changeling_applier::control::{limits, operand};
use changeling_applier::settings::{
    CheckpointSettings, CopySettings, CutOverBackoff, CutOverSettings, DeferIndexes, Endpoint, ForeignKeys,
    Leftovers, MigrationSettings, Permission, Place, Purpose, Renames, Resume, ThrottleSettings, Tls,
    TlsVerify, Triggers, VerifyMode, WarningPolicy,
};
use changeling_core::ident::TableName;

use super::credentials::{self, Credentials};
use super::resolved::Resolved;
use super::{Note, SettingsError, Surroundings, target};

/// Sessions of one kind. More would only queue up in the server.
const SESSIONS: RangeInclusive<u64> = 1..=64;
/// Seconds of `--cut-over-lock-timeout-seconds`.
const LOCK_TIMEOUT_SECONDS: RangeInclusive<i64> = 1..=10;
/// The smallest `--exponential-backoff-max-interval`.
const MIN_BACKOFF_SECONDS: i64 = 2;
/// The smallest `--checkpoint-seconds`.
const MIN_CHECKPOINT_SECONDS: u64 = 1;

pub(super) fn build(
    resolved: &Resolved,
    surroundings: &Surroundings,
    notes: &mut Vec<Note>,
) -> Result<MigrationSettings, SettingsError> {
    let alter = resolved
        .text("alter")
        .filter(|alter| !alter.trim().is_empty())
        .ok_or_else(|| usage("--alter must be provided and statement must not be empty"))?;
    let table = table(resolved, alter)?;
    let credentials = credentials::find(resolved, surroundings, notes)?;
    let inspected = inspected(resolved, &credentials)?;
    let mut settings = MigrationSettings::new(table, alter, inspected);
    settings.assumed_primary = assumed_primary(resolved, &credentials)?;
    connections(&mut settings, resolved)?;
    allowances(&mut settings, resolved);
    settings.copy = copy(resolved, notes);
    settings.throttle = throttle(resolved, notes)?;
    settings.cut_over = cut_over(&settings, resolved, notes);
    settings.checkpoint = checkpoint(resolved, notes);
    settings.leftovers = leftovers(resolved);
    work(&mut settings, resolved, notes);
    Ok(settings)
}

fn usage(text: impl Into<String>) -> SettingsError {
    SettingsError::Usage(text.into())
}

fn permission(resolved: &Resolved, flag: &str) -> Permission {
    Permission::from_flag(resolved.switch(flag))
}

fn table(resolved: &Resolved, alter: &str) -> Result<TableName, SettingsError> {
    let (database, table) = target::of_alter(alter);
    let database = resolved.text("database").map(str::to_owned).or(database).ok_or_else(|| {
        usage(
            "--database must be provided and database name must not be empty, or --alter must specify database \
             name",
        )
    })?;
    let table = resolved.text("table").map(str::to_owned).or(table).ok_or_else(|| {
        usage("--table must be provided and table name must not be empty, or --alter must specify table name")
    })?;
    Ok(TableName::new(database, table))
}

fn inspected(resolved: &Resolved, credentials: &Credentials) -> Result<Endpoint, SettingsError> {
    let port = resolved.whole("port");
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            usage(format!(
                "--port {port} is not a TCP port; write a number from 1 to 65535"
            ))
        })?;
    Ok(Endpoint {
        host: resolved.text("host").unwrap_or("127.0.0.1").to_owned(),
        port,
        user: credentials.user.clone(),
        password: credentials.password.clone(),
    })
}

fn assumed_primary(
    resolved: &Resolved,
    credentials: &Credentials,
) -> Result<Option<Endpoint>, SettingsError> {
    let Some(text) = resolved.text("assume-master-host") else {
        return Ok(None);
    };
    let (host, port) =
        operand::host(text).map_err(|error| usage(format!("--assume-master-host: {error}")))?;
    Ok(Some(Endpoint {
        host,
        port,
        user: resolved
            .text("master-user")
            .unwrap_or(&credentials.user)
            .to_owned(),
        password: resolved
            .secret("master-password")
            .unwrap_or(&credentials.password)
            .clone(),
    }))
}

fn connections(settings: &mut MigrationSettings, resolved: &Resolved) -> Result<(), SettingsError> {
    let path = |flag: &str| resolved.text(flag).map(PathBuf::from);
    if resolved.switch("ssl") {
        let insecure = resolved.switch("ssl-allow-insecure");
        settings.tls = Tls::On {
            ca: path("ssl-ca"),
            identity: path("ssl-cert").zip(path("ssl-key")),
            verify: if insecure {
                TlsVerify::Nothing
            } else {
                TlsVerify::Full
            },
        };
    }
    let seconds = resolved.real("mysql-timeout");
    let timeout = Duration::try_from_secs_f64(seconds).map_err(|_| {
        usage(format!(
            "--mysql-timeout {seconds} is not a number of seconds, 0 or more"
        ))
    })?;
    settings.timeout = (!timeout.is_zero()).then_some(timeout);
    let server_id = resolved.unsigned("replica-server-id");
    settings.server_id = u32::try_from(server_id)
        .ok()
        .filter(|id| *id != 0)
        .ok_or_else(|| {
            usage(format!(
                "--replica-server-id {server_id} is not a server id; write a number from 1 to 4294967295"
            ))
        })?;
    let reconnects = resolved.whole("binlogsyncer-max-reconnect-attempts");
    settings.max_reconnects = (reconnects > 0).then(|| u32::try_from(reconnects).unwrap_or(u32::MAX));
    settings.gtid = permission(resolved, "gtid");
    settings.assume_rbr = permission(resolved, "assume-rbr");
    settings.skip_port_validation = permission(resolved, "skip-port-validation");
    settings.place = if resolved.switch("test-on-replica") {
        Place::TestOnReplica {
            stop_replica: Permission::from_flag(!resolved.switch("test-on-replica-skip-replica-stop")),
        }
    } else {
        Place::Primary {
            inspect_primary: permission(resolved, "allow-on-master"),
        }
    };
    Ok(())
}

fn allowances(settings: &mut MigrationSettings, resolved: &Resolved) {
    settings.renames = if resolved.switch("approve-renamed-columns") {
        Renames::Approve
    } else if resolved.switch("skip-renamed-columns") {
        Renames::Skip
    } else {
        Renames::Ask
    };
    settings.foreign_keys = if resolved.switch("skip-foreign-key-checks") {
        ForeignKeys::SkipChecks
    } else if resolved.switch("discard-foreign-keys") {
        ForeignKeys::Discard
    } else {
        ForeignKeys::Refuse
    };
    settings.triggers = match resolved.text("trigger-suffix") {
        Some(suffix) if resolved.switch("include-triggers") => Triggers::Include {
            suffix: suffix.to_owned(),
            remove_if_exists: permission(resolved, "remove-trigger-suffix-if-exists"),
        },
        _ => Triggers::Refuse,
    };
    settings.skip_strict_mode = permission(resolved, "skip-strict-mode");
    settings.allow_zero_in_date = permission(resolved, "allow-zero-in-date");
    settings.allow_nullable_unique_key = permission(resolved, "allow-nullable-unique-key");
    settings.attempt_instant = permission(resolved, "attempt-instant-ddl");
    settings.skip_metadata_lock_check = permission(resolved, "skip-metadata-lock-check");
    settings.allow_setup_instruments = permission(resolved, "allow-setup-metadata-lock-instruments");
    settings.force_named_cut_over = permission(resolved, "force-named-cut-over");
    settings.force_named_panic = permission(resolved, "force-named-panic");
}

fn copy(resolved: &Resolved, notes: &mut Vec<Note>) -> CopySettings {
    let time = resolved.unsigned("chunk-time");
    CopySettings {
        chunk_size: clamped(resolved, "chunk-size", &limits::CHUNK_SIZE, notes),
        chunk_time: (time > 0).then(|| Duration::from_millis(time)),
        workers: sessions(resolved, "copy-workers", notes),
        warnings: if resolved.switch("panic-on-warnings") {
            WarningPolicy::Abort
        } else {
            WarningPolicy::Ignore
        },
        defer_indexes: match resolved.word("defer-indexes") {
            Some("always") => DeferIndexes::Always,
            Some("never") => DeferIndexes::Never,
            _ => DeferIndexes::Auto,
        },
    }
}

fn throttle(resolved: &Resolved, notes: &mut Vec<Note>) -> Result<ThrottleSettings, SettingsError> {
    let path = |flag: &str| resolved.text(flag).map(PathBuf::from);
    let load = |flag: &str| {
        operand::load_limits(resolved.text(flag).unwrap_or_default())
            .map_err(|error| usage(format!("--{flag}: {error}")))
    };
    let max_lag = Duration::from_millis(u64::try_from(resolved.whole("max-lag-millis")).unwrap_or(0));
    if max_lag < limits::MIN_MAX_LAG {
        notes.push(Note::warning(
            "--max-lag-millis is below 100; it is taken as 100".into(),
        ));
    }
    let nice = resolved.real("nice-ratio");
    let nice_ratio = limits::clamp_ratio(nice, &limits::NICE_RATIO);
    if nice_ratio.total_cmp(&nice).is_ne() {
        notes.push(Note::warning(format!(
            "--nice-ratio {nice} is not in 0 to 100; it is taken as {nice_ratio}"
        )));
    }
    let interval = resolved.unsigned("critical-load-interval-millis");
    Ok(ThrottleSettings {
        max_lag: max_lag.max(limits::MIN_MAX_LAG),
        heartbeat_interval: Duration::from_millis(clamped(
            resolved,
            "heartbeat-interval-millis",
            &limits::HEARTBEAT_MILLIS,
            notes,
        )),
        control_replicas: operand::hosts(resolved.text("throttle-control-replicas").unwrap_or_default())
            .map_err(|error| usage(format!("--throttle-control-replicas: {error}")))?,
        max_load: load("max-load")?,
        critical_load: load("critical-load")?,
        critical_load_interval: (interval > 0).then(|| Duration::from_millis(interval)),
        query: resolved.text("throttle-query").map(str::to_owned),
        flag_file: path("throttle-flag-file"),
        additional_flag_file: path("throttle-additional-flag-file"),
        panic_flag_file: path("panic-flag-file"),
        nice_ratio,
    })
}

fn cut_over(defaults: &MigrationSettings, resolved: &Resolved, notes: &mut Vec<Note>) -> CutOverSettings {
    let timeout = kept(
        "cut-over-lock-timeout-seconds",
        resolved.whole("cut-over-lock-timeout-seconds"),
        |seconds| LOCK_TIMEOUT_SECONDS.contains(&seconds),
        3,
        notes,
    );
    let max = kept(
        "exponential-backoff-max-interval",
        resolved.whole("exponential-backoff-max-interval"),
        |seconds| seconds >= MIN_BACKOFF_SECONDS,
        64,
        notes,
    );
    CutOverSettings {
        lock_timeout: Duration::from_secs(timeout),
        backoff: if resolved.switch("cut-over-exponential-backoff") {
            CutOverBackoff::Exponential {
                max: Duration::from_secs(max),
            }
        } else {
            CutOverBackoff::Constant
        },
        postpone_flag_file: resolved.text("postpone-cut-over-flag-file").map(PathBuf::from),
        analyze_ghost: permission(resolved, "analyze-ghost-table-before-cutover"),
        budget: defaults.cut_over.budget,
    }
}

fn checkpoint(resolved: &Resolved, notes: &mut Vec<Note>) -> CheckpointSettings {
    let seconds = clamped_unsigned(
        resolved,
        "checkpoint-seconds",
        &(MIN_CHECKPOINT_SECONDS..=u64::from(u32::MAX)),
        notes,
    );
    CheckpointSettings {
        interval: resolved
            .switch("checkpoint")
            .then(|| Duration::from_secs(seconds)),
        resume: match (resolved.switch("resume"), resolved.word("resume")) {
            (true, _) => Resume::Require,
            (false, Some(_)) => Resume::Auto,
            (false, None) => Resume::No,
        },
    }
}

fn leftovers(resolved: &Resolved) -> Leftovers {
    Leftovers {
        drop_ghost_first: permission(resolved, "initially-drop-ghost-table"),
        drop_old_first: permission(resolved, "initially-drop-old-table"),
        drop_old_last: permission(resolved, "ok-to-drop-table"),
        timestamp_old: permission(resolved, "timestamp-old-table"),
        base_name: resolved.text("force-table-names").map(str::to_owned),
    }
}

fn work(settings: &mut MigrationSettings, resolved: &Resolved, notes: &mut Vec<Note>) {
    settings.purpose = if resolved.switch("execute") {
        Purpose::Execute
    } else {
        Purpose::DryRun
    };
    let keys = clamped(resolved, "dml-batch-size", &limits::DML_BATCH_SIZE, notes);
    settings.batch_keys = usize::try_from(keys).unwrap_or(usize::MAX);
    // As in gh-ost, nothing and less than nothing leave the default in place.
    let retries = kept(
        "default-retries",
        resolved.whole("default-retries"),
        |tries| tries > 0,
        60,
        notes,
    );
    settings.retries = retries;
    settings.lanes = sessions(resolved, "apply-lanes", notes);
    settings.exact_rowcount = permission(resolved, "exact-rowcount");
    settings.concurrent_rowcount = permission(resolved, "concurrent-rowcount");
    settings.verify = match resolved.word("verify") {
        Some("off") => VerifyMode::Off,
        Some("sample") => VerifyMode::Sample,
        _ => VerifyMode::Full,
    };
    settings.verify_report = resolved.text("verify-report").map(PathBuf::from);
}

/// The value, moved into its bounds as gh-ost does it.
fn clamped(resolved: &Resolved, flag: &str, bounds: &RangeInclusive<u64>, notes: &mut Vec<Note>) -> u64 {
    let given = resolved.whole(flag);
    let value = limits::clamp_whole(given, bounds);
    if i64::try_from(value) != Ok(given) {
        notes.push(out_of_bounds(flag, given, bounds, value));
    }
    value
}

fn clamped_unsigned(
    resolved: &Resolved,
    flag: &str,
    bounds: &RangeInclusive<u64>,
    notes: &mut Vec<Note>,
) -> u64 {
    let given = resolved.unsigned(flag);
    let value = given.clamp(*bounds.start(), *bounds.end());
    if value != given {
        notes.push(out_of_bounds(flag, given, bounds, value));
    }
    value
}

fn out_of_bounds(
    flag: &str,
    given: impl std::fmt::Display,
    bounds: &RangeInclusive<u64>,
    value: u64,
) -> Note {
    let (low, high) = (bounds.start(), bounds.end());
    Note::warning(format!(
        "--{flag} {given} is not in {low} to {high}; it is taken as {value}"
    ))
}

fn sessions(resolved: &Resolved, flag: &str, notes: &mut Vec<Note>) -> NonZeroUsize {
    let sessions = clamped_unsigned(resolved, flag, &SESSIONS, notes);
    usize::try_from(sessions)
        .ok()
        .and_then(NonZeroUsize::new)
        .unwrap_or(NonZeroUsize::MIN)
}

/// The value if it is good, else gh-ost's default, which gh-ost then keeps.
fn kept(flag: &str, value: i64, good: impl Fn(i64) -> bool, default: u64, notes: &mut Vec<Note>) -> u64 {
    if let Ok(value) = u64::try_from(value)
        && i64::try_from(value).is_ok_and(good)
    {
        return value;
    }
    notes.push(Note::warning(format!(
        "--{flag} {value} is out of range; it stays at {default}"
    )));
    default
}
