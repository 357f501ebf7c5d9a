//! Triggers of the original table, remade on the new one at the cut-over.

use changeling_core::ident::{TableName, quote, quote_text};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::{Deserialize, Serialize};

use crate::alter;
use crate::ghost::owned;
use crate::inspector::{ProblemKind, Problems};
use crate::server::{Server, ServerError, shown};
use crate::settings::Triggers;

/// The longest name of a trigger, in characters.
const LONGEST_NAME: usize = 64;

/// A trigger as the server has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// `BEFORE` or `AFTER`.
    pub timing: String,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub event: String,
    /// Account it runs as, quoted: `` `root`@`localhost` ``.
    pub definer: String,
    /// `sql_mode` it was created with.
    pub sql_mode: String,
    /// `character_set_client` it was created with.
    pub charset: String,
    /// `collation_connection` it was created with.
    pub collation: String,
    /// Everything after `FOR EACH ROW` and its place in the order.
    pub body: String,
}

/// A trigger to be: what is run when, and how it is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerPlan {
    /// Name on the original table.
    pub name: String,
    /// Name on the new one.
    pub new_name: String,
    /// Statements that create it, session settings included; they are put back by the last one.
    pub create: Vec<String>,
    /// The statement that drops it again.
    pub drop: String,
}

/// The triggers of a table, in firing order within each timing and event.
///
/// # Errors
/// If the server cannot be asked.
pub async fn read(server: &Server, conn: &mut Conn, table: &TableName) -> Result<Vec<Trigger>, ServerError> {
    let doing = format!("look for triggers on {table}");
    let names: Vec<(String, String, String, String)> = conn
        .exec(
            "SELECT TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, DEFINER FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? \
             ORDER BY ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER",
            (&table.schema, &table.table),
        )
        .await
        .map_err(server.failed(&doing))?;
    let mut triggers = Vec::with_capacity(names.len());
    for (name, timing, event, definer) in names {
        let shown_by = format!("SHOW CREATE TRIGGER {}", table.sibling(&name).quoted());
        let row: Option<Row> = conn.query_first(shown_by).await.map_err(server.failed(&doing))?;
        let Some(row) = row else { continue };
        let get = |column| shown(&row, &[column]).unwrap_or_default();
        let sql_mode = get("sql_mode");
        let text = get("SQL Original Statement");
        let body = alter::trigger_body(&text, !sql_mode.contains("NO_BACKSLASH_ESCAPES")).unwrap_or_default();
        triggers.push(Trigger {
            name,
            timing,
            event,
            definer: account(&definer),
            charset: get("character_set_client"),
            collation: get("collation_connection"),
            sql_mode,
            body,
        });
    }
    Ok(triggers)
}

/// `user@host` as `information_schema` has it, quoted. A host has no `@`; a user may.
fn account(definer: &str) -> String {
    definer.rsplit_once('@').map_or_else(
        || quote(definer),
        |(user, host)| format!("{}@{}", quote(user), quote(host)),
    )
}

/// gh-ost's rule: the suffix is added, or taken off where it is there already and that is wanted.
fn new_name(name: &str, suffix: &str, remove: bool) -> String {
    match name.strip_suffix(suffix) {
        Some(base) if remove && !base.is_empty() => base.to_owned(),
        _ => format!("{name}{suffix}"),
    }
}

/// Checks triggers against the settings. Names that are taken on tables of `ours` will be free: those triggers go.
///
/// # Errors
/// If the server cannot be asked.
pub(crate) async fn check(
    server: &Server,
    conn: &mut Conn,
    table: &TableName,
    triggers: &[Trigger],
    policy: &Triggers,
    ours: &[String],
    problems: &mut Problems,
) -> Result<(), ServerError> {
    if triggers.is_empty() {
        return Ok(());
    }
    let Triggers::Include {
        suffix,
        remove_if_exists,
    } = policy
    else {
        let names: Vec<&str> = triggers.iter().map(|trigger| trigger.name.as_str()).collect();
        problems.add(
            ProblemKind::Triggers,
            format!(
                "found triggers on {table}: {}. Tables with triggers are supported only when using \
                --include-triggers flag. Bailing out",
                names.join(", ")
            ),
            "--include-triggers with --trigger-suffix makes them anew on the new table",
        );
        return Ok(());
    };
    if suffix.is_empty() || !suffix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        problems.add(
            ProblemKind::Triggers,
            format!("--trigger-suffix \"{suffix}\" must be letters, digits and underscores"),
            "two triggers of a schema cannot have one name",
        );
        return Ok(());
    }
    let taken: Vec<(String, String)> = conn
        .exec(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ?",
            (&table.schema,),
        )
        .await
        .map_err(server.failed("look for names of triggers"))?;
    let taken: Vec<String> = taken
        .iter()
        .filter(|(_, on)| !ours.contains(on))
        .map(|(name, _)| name.to_lowercase())
        .collect();
    for trigger in triggers {
        let name = new_name(&trigger.name, suffix, remove_if_exists.granted());
        if name.chars().count() > LONGEST_NAME {
            problems.add(
                ProblemKind::Triggers,
                format!("the name of trigger {name} would be too long: length > 64 characters"),
                "choose a shorter --trigger-suffix",
            );
        }
        if taken.contains(&name.to_lowercase()) {
            problems.add(
                ProblemKind::Triggers,
                format!(
                    "found gh-ost triggers: {name} already exists in {}",
                    quote(&table.schema)
                ),
                "an earlier attempt left it, or choose another --trigger-suffix",
            );
        }
        if trigger.body.is_empty() {
            problems.add(
                ProblemKind::Triggers,
                format!("the text of trigger {} cannot be read", trigger.name),
                "the account needs the TRIGGER privilege",
            );
        }
    }
    Ok(())
}

/// What makes the triggers anew on `target` (the ghost table, which takes them along when it is renamed).
///
/// They are created one after the other in firing order, so that no order needs to be said; each in a session
/// with the settings of the original, because a trigger keeps them.
#[must_use]
pub fn plan(triggers: &[Trigger], policy: &Triggers, target: &TableName, owner: &str) -> Vec<TriggerPlan> {
    let Triggers::Include {
        suffix,
        remove_if_exists,
    } = policy
    else {
        return Vec::new();
    };
    triggers
        .iter()
        .map(|trigger| {
            let new_name = new_name(&trigger.name, suffix, remove_if_exists.granted());
            let full_name = target.sibling(&new_name).quoted();
            let create = format!(
                "CREATE DEFINER={} TRIGGER {full_name} {} {} ON {} FOR EACH ROW {}",
                trigger.definer,
                trigger.timing,
                trigger.event,
                target.quoted(),
                trigger.body
            );
            // The text reaches us in UTF-8. Where it is plain ASCII the original character set can be kept
            // too; else only the connection's, which decides what a literal is.
            let charset = if trigger.body.is_ascii() {
                trigger.charset.as_str()
            } else {
                "utf8mb4"
            };
            let keep = "SET @changeling_sql_mode = @@SESSION.sql_mode".to_owned();
            let set = format!(
                "SET SESSION character_set_client={}, collation_connection={}, sql_mode={}",
                quote_text(charset),
                quote_text(&trigger.collation),
                quote_text(&trigger.sql_mode)
            );
            let back = "SET SESSION sql_mode = @changeling_sql_mode".to_owned();
            TriggerPlan {
                name: trigger.name.clone(),
                create: vec![
                    keep,
                    set,
                    owned(owner, &create),
                    back,
                    "SET NAMES utf8mb4".to_owned(),
                ],
                drop: owned(owner, &format!("DROP TRIGGER IF EXISTS {full_name}")),
                new_name,
            }
        })
        .collect()
}

/// Creates every trigger on the (still empty) ghost table and drops it again: a column that is gone, a
/// missing privilege for the definer, or a name that is taken shows now, not at the cut-over.
///
/// # Errors
/// The server's refusal.
pub async fn rehearse(server: &Server, conn: &mut Conn, plans: &[TriggerPlan]) -> Result<(), ServerError> {
    let mut result = Ok(());
    let mut created = Vec::new();
    'plans: for plan in plans {
        let doing = format!("create trigger {} on the altered table", plan.new_name);
        for statement in &plan.create {
            // After a refusal the rest still runs: it puts the session's settings back.
            if let Err(error) = conn.query_drop(statement).await {
                result = Err(server.failed(&doing)(error));
                let _ = conn
                    .query_drop("SET SESSION sql_mode = @changeling_sql_mode")
                    .await;
                let _ = conn.query_drop("SET NAMES utf8mb4").await;
                break 'plans;
            }
        }
        created.push(plan);
    }
    for plan in created {
        let doing = format!("drop trigger {}", plan.new_name);
        conn.query_drop(&plan.drop).await.map_err(server.failed(&doing))?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Permission;
    use rstest::rstest;

    #[rstest]
    #[case("a", "_x", true, "a_x")]
    #[case("a_x", "_x", true, "a")]
    #[case("a_x", "_x", false, "a_x_x")]
    #[case("_x", "_x", true, "_x_x")]
    fn names(#[case] name: &str, #[case] suffix: &str, #[case] remove: bool, #[case] expected: &str) {
        assert_eq!(new_name(name, suffix, remove), expected);
    }

    #[test]
    fn an_account_with_an_at_sign() {
        assert_eq!(account("a@b@%"), "`a@b`@`%`");
    }

    #[test]
    fn the_plan_keeps_definer_mode_and_collation() {
        let trigger = Trigger {
            name: "t1".into(),
            timing: "BEFORE".into(),
            event: "INSERT".into(),
            definer: "`a`@`%`".into(),
            sql_mode: "ANSI_QUOTES".into(),
            charset: "latin1".into(),
            collation: "latin1_swedish_ci".into(),
            body: "SET NEW.a = 1".into(),
        };
        let policy = Triggers::Include {
            suffix: "_v2".into(),
            remove_if_exists: Permission::Refused,
        };
        let plans = plan(&[trigger], &policy, &TableName::new("s", "_t_gho"), "o");
        assert_eq!(plans.len(), 1);
        assert_eq!(
            plans[0].create[2],
            "/* changeling:o */ CREATE DEFINER=`a`@`%` TRIGGER `s`.`t1_v2` BEFORE INSERT ON `s`.`_t_gho` FOR EACH ROW SET NEW.a = 1"
        );
        assert!(plans[0].create[1].contains("'latin1'") && plans[0].create[1].contains("'ANSI_QUOTES'"));
        assert_eq!(
            plans[0].drop,
            "/* changeling:o */ DROP TRIGGER IF EXISTS `s`.`t1_v2`"
        );
        assert!(super::plan(&[], &Triggers::Refuse, &TableName::new("s", "g"), "o").is_empty());
    }
}
