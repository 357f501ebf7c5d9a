//! How sessions that define and write the ghost table are set up.

use changeling_core::schema::{ColumnKind, Generated};

use super::columns::Mapping;
use super::problem::{ProblemKind, Problems};
use super::table::TableDetail;
use crate::plan::{KeyPlan, SessionPlan};
use crate::server::{Variables, sql_modes};
use crate::settings::MigrationSettings;

/// Where no value depends on the time zone, TIMESTAMPs pass through as they are stored.
const UTC: &str = "+00:00";

/// Modes that change what our own SQL means, or what it reads.
///
/// `PAD_CHAR_TO_FULL_LENGTH` would add spaces to what is copied out of CHAR columns; the others change how
/// quotes and literals are read, and our SQL is written for the default.
const FOREIGN_TO_OURS: [&str; 5] = [
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "PAD_CHAR_TO_FULL_LENGTH",
    "EMPTY_STRING_IS_NULL",
    "IGNORE_SPACE",
];

const ZERO_DATES: [&str; 2] = ["NO_ZERO_DATE", "NO_ZERO_IN_DATE"];

fn additions(settings: &MigrationSettings) -> &'static [&'static str] {
    if settings.skip_strict_mode.granted() {
        &["NO_AUTO_VALUE_ON_ZERO"]
    } else {
        &["NO_AUTO_VALUE_ON_ZERO", "STRICT_ALL_TABLES"]
    }
}

fn zero_dates(settings: &MigrationSettings) -> &'static [&'static str] {
    if settings.allow_zero_in_date.granted() {
        &ZERO_DATES
    } else {
        &[]
    }
}

/// The session in which the ALTER runs: as the server's own sessions are, so that the ALTER means what it
/// would mean there, with gh-ost's changes. Quotes mean what they mean on the server.
#[must_use]
pub fn for_definition(variables: &Variables, settings: &MigrationSettings) -> SessionPlan {
    let mode = variables.get("sql_mode").unwrap_or_default();
    SessionPlan {
        time_zone: variables.get("time_zone").unwrap_or("SYSTEM").to_owned(),
        sql_mode: sql_modes(mode, zero_dates(settings), additions(settings)),
    }
}

/// Whether the server's time zone is UTC, whatever it is called.
fn is_utc(variables: &Variables) -> bool {
    let zone = variables.get("time_zone").unwrap_or("SYSTEM");
    let zone = if zone.eq_ignore_ascii_case("SYSTEM") {
        variables.get("system_time_zone").unwrap_or_default()
    } else {
        zone
    };
    ["UTC", "+00:00", "-00:00", "GMT", "ETC/UTC", "UCT"].contains(&zone.to_ascii_uppercase().as_str())
}

/// Whether some value that is written depends on the session's time zone, and which.
fn zone_dependent(original: &TableDetail, ghost: &TableDetail, mapping: &Mapping) -> Option<String> {
    let timestamp = |kind: &ColumnKind| matches!(kind, ColumnKind::Timestamp { .. });
    for pair in &mapping.pairs {
        let (source, target) = (
            original.schema.columns.get(pair.source)?,
            ghost.schema.columns.get(pair.target)?,
        );
        if target.generated == Generated::No && timestamp(&source.kind) != timestamp(&target.kind) {
            return Some(format!(
                "{} changes from {} to {}",
                source.name, source.column_type, target.column_type
            ));
        }
    }
    let has_timestamp = ghost.schema.columns.iter().any(|column| timestamp(&column.kind));
    for (target, column) in ghost.schema.columns.iter().enumerate() {
        let computed = ghost
            .extras
            .get(target)
            .is_some_and(|extra| extra.computed_default)
            && mapping.source_of(target).is_none()
            && !timestamp(&column.kind);
        if computed {
            return Some(format!("the new column {} has a computed default", column.name));
        }
        if has_timestamp && column.generated != Generated::No {
            return Some(format!(
                "{} is computed by the server, which may look at a TIMESTAMP",
                column.name
            ));
        }
    }
    let expression = ghost
        .indexes
        .iter()
        .find(|index| index.parts.iter().any(|part| part.expression.is_some()));
    expression.filter(|_| has_timestamp).map(|index| {
        format!(
            "the index {} holds an expression, which may look at a TIMESTAMP",
            index.name
        )
    })
}

/// The sessions that copy and synchronise.
///
/// A key that holds a TIMESTAMP is always looked up in UTC: in a zone with summer time an hour of every
/// year means two moments. Where the conversion needs such a zone, the combination is refused.
pub(super) fn for_writing(
    variables: &Variables,
    settings: &MigrationSettings,
    original: &TableDetail,
    ghost: &TableDetail,
    mapping: &Mapping,
    key: Option<&KeyPlan>,
    problems: &mut Problems,
) -> SessionPlan {
    let mode = variables.get("sql_mode").unwrap_or_default();
    let mut without = FOREIGN_TO_OURS.to_vec();
    without.extend(zero_dates(settings));
    let sql_mode = sql_modes(mode, &without, additions(settings));
    let zone = variables.get("time_zone").unwrap_or("SYSTEM");
    let time_zone = match zone_dependent(original, ghost, mapping) {
        Some(reason) if !is_utc(variables) => {
            let stamped = key.and_then(|key| {
                key.columns
                    .iter()
                    .find(|column| matches!(column.source.kind, ColumnKind::Timestamp { .. }))
            });
            if let Some(column) = stamped {
                problems.add(
                    ProblemKind::Columns,
                    format!(
                        "the chosen key holds the TIMESTAMP {} and values must be converted in the time zone {zone} \
                         ({reason}): in such a zone one time can mean two moments",
                        column.source.name
                    ),
                    "split the change, or run it while the server's time_zone is '+00:00'",
                );
            }
            zone.to_owned()
        }
        _ => UTC.to_owned(),
    };
    SessionPlan { time_zone, sql_mode }
}
