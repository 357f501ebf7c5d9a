//! What the server says about a table that is to be written.

use changeling_core::grants::Grants;
use changeling_core::ident::{TableName, quote, quote_text};

use crate::model::{NodeName, TableShape};
use crate::mysql::side::MySqlConnection;
use crate::repair::RepairError;
use crate::repair::runner::Triggers;
use crate::side::SideError;

/// A table whose rows refer to ours.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// Its name, quoted.
    pub(super) table: String,
    /// Its columns and ours, in the constraint's order.
    pub(super) columns: Vec<(String, String)>,
    /// Whether it is our table itself.
    own: bool,
    pub(super) follows_deletion: bool,
    pub(super) follows_change: bool,
}

impl Reference {
    /// The predicate by which a row `r` of it refers to a row `t` of ours.
    pub(super) fn matches(&self) -> String {
        let equal = |(theirs, ours): &(String, String)| format!("r.{} = t.{}", quote(theirs), quote(ours));
        self.columns.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }
}

/// What the server says about a table that is to be written.
#[derive(Clone, Debug)]
pub(super) struct TableFacts {
    engine: String,
    transactional: bool,
    triggers: Vec<String>,
    sees_triggers: bool,
    /// Only those that this account may see.
    pub(super) referring: Vec<Reference>,
    /// The longest statement in bytes.
    pub(super) packet: usize,
}

impl TableFacts {
    pub(super) async fn read(connection: &mut MySqlConnection, table: &TableName) -> Result<Self, SideError> {
        let place = |schema: &str, name: &str| {
            format!(
                "{schema} = {} AND {name} = {}",
                quote_text(&table.schema),
                quote_text(&table.table)
            )
        };
        let engines = connection
            .all(&format!(
                "SELECT t.ENGINE, e.TRANSACTIONS, @@max_allowed_packet FROM information_schema.TABLES AS t \
                 LEFT JOIN information_schema.ENGINES AS e ON e.ENGINE = t.ENGINE WHERE {}",
                place("t.TABLE_SCHEMA", "t.TABLE_NAME")
            ))
            .await?;
        let told = |column: usize| engines.first().and_then(|row| row.get(column).cloned().flatten());
        let triggers = connection
            .all(&format!(
                "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE {} ORDER BY 1",
                place("EVENT_OBJECT_SCHEMA", "EVENT_OBJECT_TABLE")
            ))
            .await?;
        Ok(Self {
            engine: told(0).unwrap_or_default(),
            transactional: told(1).as_deref() == Some("YES"),
            packet: told(2).and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            triggers: triggers.into_iter().flatten().flatten().collect(),
            sees_triggers: sees_triggers(connection, table).await?,
            referring: referring(connection, table).await?,
        })
    }

    /// # Errors
    /// The table cannot be written as a repair has to.
    pub(super) fn check(&self, node: &NodeName, triggers: Triggers) -> Result<(), RepairError> {
        if !self.transactional {
            return Err(RepairError::Refused(format!(
                "{node}: the table is kept by {}, which has no transactions: rows cannot be locked and compared before they \
                 are written, nor a batch undone; ALTER TABLE … ENGINE = InnoDB first",
                self.engine
            )));
        }
        match triggers {
            Triggers::Fire => Ok(()),
            Triggers::Quiet if !self.triggers.is_empty() => Err(RepairError::Refused(format!(
                "{node}: the table has triggers ({}), and MySQL and MariaDB cannot keep them from firing. Repair with \
                 --fire-triggers if they may fire, or drop them while the table is repaired",
                self.triggers.join(", ")
            ))),
            Triggers::Quiet if !self.sees_triggers => Err(RepairError::Refused(format!(
                "{node}: this account may not see whether the table has triggers, and they would fire; GRANT TRIGGER on the \
                 table to the account, or repair with --fire-triggers"
            ))),
            Triggers::Quiet => Ok(()),
        }
    }

    /// Whether triggers may give a written row other values.
    pub(super) fn has_triggers(&self) -> bool {
        !self.triggers.is_empty() || !self.sees_triggers
    }

    /// The table's references to itself: positions of the columns that refer, and of those that are referred to.
    pub(super) fn own_references(&self, shape: &TableShape) -> Vec<Vec<(usize, usize)>> {
        let position = |name: &String| {
            let same = |column: &crate::model::ColumnShape| column.name.to_lowercase() == name.to_lowercase();
            shape.columns.iter().position(same)
        };
        let own = self.referring.iter().filter(|reference| reference.own);
        own.filter_map(|reference| {
            let pair = |(theirs, ours): &(String, String)| Some((position(theirs)?, position(ours)?));
            reference.columns.iter().map(pair).collect()
        })
        .collect()
    }
}

/// `information_schema.TRIGGERS` shows nothing to accounts that may not see.
async fn sees_triggers(connection: &mut MySqlConnection, table: &TableName) -> Result<bool, SideError> {
    let revokes = connection.all("SHOW VARIABLES LIKE 'partial_revokes'").await?;
    let patterns = revokes
        .first()
        .and_then(|row| row.get(1).cloned().flatten())
        .is_none_or(|value| value != "ON");
    let lines: Vec<String> = connection
        .all("SHOW GRANTS")
        .await?
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let grants = Grants::parse(lines.iter().map(String::as_str), patterns);
    Ok(grants.on_table("TRIGGER", table))
}

async fn referring(connection: &mut MySqlConnection, table: &TableName) -> Result<Vec<Reference>, SideError> {
    let rows = connection
        .all(&format!(
            "SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME, \
             r.DELETE_RULE, r.UPDATE_RULE FROM information_schema.KEY_COLUMN_USAGE AS k \
             JOIN information_schema.REFERENTIAL_CONSTRAINTS AS r ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA \
             AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME \
             WHERE k.REFERENCED_TABLE_SCHEMA = {} AND k.REFERENCED_TABLE_NAME = {} \
             ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION",
            quote_text(&table.schema),
            quote_text(&table.table)
        ))
        .await?;
    let follows = |rule: &str| !matches!(rule, "RESTRICT" | "NO ACTION");
    let mut found: Vec<(String, Reference)> = Vec::new();
    for row in rows {
        let text = |column: usize| row.get(column).cloned().flatten().unwrap_or_default();
        let name = TableName::new(text(0), text(1));
        let identity = format!("{name}.{}", quote(&text(2)));
        let columns = (text(3), text(4));
        match found.last_mut() {
            Some((last, reference)) if *last == identity => reference.columns.push(columns),
            _ => found.push((
                identity,
                Reference {
                    table: name.quoted(),
                    columns: vec![columns],
                    own: name == *table,
                    follows_deletion: follows(&text(5)),
                    follows_change: follows(&text(6)),
                },
            )),
        }
    }
    Ok(found.into_iter().map(|(_, reference)| reference).collect())
}
