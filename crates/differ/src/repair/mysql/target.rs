//! One node: its session, what it can be asked, and how it is written to.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::facts::{Reference, TableFacts};
use super::order::parents_first;
use super::scribe::MySqlScribe;
use super::statement::Statements;
use crate::model::{Key, NodeName, Row, TableShape};
use crate::mysql::side::{Failure, MySqlNode, MySqlSession, Purpose, RowLock, TablePlan};
use crate::repair::RepairError;
use crate::repair::decision::NodeRow;
use crate::repair::runner::{BinaryLog, RepairOptions};
use crate::repair::script::Scribe;
use crate::repair::target::{
    Answer, Change, Departure, Ending, Ground, Held, Locking, Refusal, Role, Savepoint, Target, Written,
};
use crate::side::{SideError, SideErrorKind};

/// Look-ups in one statement: enough to save round trips, few enough for the server's parser.
const LOOK_UPS: usize = 50;

/// Errors that are not about rows: what every row needs is not allowed, or not there.
const NOT_ABOUT_ROWS: &[u16] = &[
    1021, 1114, // the disk, the table space is full
    1044, 1045, 1142, 1143, // denied
    1049, 1054, 1146, 1412, // schema, column, table gone or changed
    1153, // packet too large; the connection is closed
    1206, // no room for more locks
    1290, 1792, 1836, // read only
    1665, 1785, // the binary log's format, GTIDs
    3100, // a replication hook
];

/// A node of a repair.
pub(in crate::repair) struct MySqlTarget {
    session: MySqlSession,
    statements: Statements,
    shape: Arc<TableShape>,
    role: Role,
    facts: TableFacts,
    /// References of the table to itself, by positions of columns.
    own: Vec<Vec<(usize, usize)>>,
}

impl MySqlTarget {
    /// Connects, and finds out what writing to the table would set off.
    pub(in crate::repair) async fn connect(
        node: &MySqlNode,
        shape: Arc<TableShape>,
        plan: Arc<TablePlan>,
        role: Role,
        options: &RepairOptions,
    ) -> Result<Self, RepairError> {
        let purpose = match role {
            Role::Written => Purpose::Writing,
            Role::Read => Purpose::Reading,
        };
        let mut connection = node.server.connect_for(purpose).await?;
        let facts = TableFacts::read(&mut connection, &node.table).await?;
        if role == Role::Written {
            facts.check(&connection.node, options.triggers)?;
        }
        let statements = Statements {
            plan: Arc::clone(&plan),
            shape: Arc::clone(&shape),
            packet: facts.packet,
        };
        let mut target = Self {
            session: MySqlSession { connection, plan },
            own: facts.own_references(&shape),
            statements,
            shape,
            role,
            facts,
        };
        if role == Role::Written {
            if options.binary_log == BinaryLog::Spared {
                target.spare_binary_log().await?;
            }
            target.check_privileges().await?;
        }
        Ok(target)
    }

    async fn spare_binary_log(&mut self) -> Result<(), RepairError> {
        let set = self.run("SET SESSION sql_log_bin = 0").await;
        set.map_err(|error| match error.kind {
            SideErrorKind::Permanent => RepairError::Refused(format!(
                "{}: this account may not keep its changes out of the binary log; GRANT SESSION_VARIABLES_ADMIN (MySQL) or \
                 BINLOG ADMIN (MariaDB) to it ({})",
                error.node, error.message
            )),
            _ => error.into(),
        })
    }

    /// Explaining a statement takes the privileges that it takes; beginning a transaction takes a server that can be written.
    async fn check_privileges(&mut self) -> Result<(), RepairError> {
        let table = &self.statements.plan.source;
        let column = self.statements.name(self.shape.key[0]);
        let writable: Vec<String> = self
            .statements
            .writable()
            .map(|at| self.statements.name(at))
            .collect();
        let all = writable.join(", ");
        let probes = [
            "START TRANSACTION READ WRITE".to_owned(),
            format!("EXPLAIN SELECT {column} FROM {table} WHERE 1 = 0 FOR UPDATE"),
            format!("EXPLAIN INSERT INTO {table} ({all}) SELECT {all} FROM {table} WHERE 1 = 0"),
            format!("EXPLAIN UPDATE {table} SET {column} = {column} WHERE 1 = 0"),
            format!("EXPLAIN DELETE FROM {table} WHERE 1 = 0"),
            "ROLLBACK".to_owned(),
        ];
        for probe in probes {
            let asked = self.session.connection.execute(&probe).await;
            if let Err(Failure { code, error }) = asked {
                return Err(match code {
                    Some(1044 | 1142 | 1143) => RepairError::Refused(format!(
                        "{}: a repair needs SELECT, INSERT, UPDATE and DELETE on the table; GRANT them to the account ({})",
                        error.node, error.message
                    )),
                    _ => error.into(),
                });
            }
        }
        Ok(())
    }

    async fn run(&mut self, text: &str) -> Result<(), SideError> {
        let done = self.session.connection.execute(text).await;
        done.map(|_| ()).map_err(|failure| failure.error)
    }

    async fn write(&mut self, texts: Vec<String>) -> Result<u64, Refusal> {
        let mut rows = 0;
        for text in texts {
            rows += self.session.connection.execute(&text).await.map_err(refusal)?;
        }
        Ok(rows)
    }

    async fn rows_now(&mut self, keys: &[Key], locking: Locking) -> Result<Vec<Option<NodeRow>>, SideError> {
        let lock = match locking {
            Locking::None => RowLock::None,
            Locking::ForUpdate => RowLock::Exclusive,
        };
        let mut rows = vec![None; keys.len()];
        for found in self.session.look_up(keys, lock).await? {
            if let Some(place) = rows.get_mut(found.asked) {
                *place = Some(NodeRow {
                    row: Row(found.cells),
                    commit_ts: None,
                    origin: None,
                });
            }
        }
        Ok(rows)
    }

    /// A report of a comparison of this kind has the server's own words already.
    async fn canonical_now(&mut self, rows: &[&Row]) -> Result<Vec<Row>, Refusal> {
        for row in rows {
            for (position, cell) in row.0.iter().enumerate() {
                self.statements.literal(position, cell)?;
            }
        }
        Ok(rows.iter().map(|row| (*row).clone()).collect())
    }

    async fn referenced_now(
        &mut self,
        keys: &[Key],
        departure: Departure,
    ) -> Result<Vec<Option<String>>, Refusal> {
        let follows = |reference: &&Reference| match departure {
            Departure::Deleted => reference.follows_deletion,
            Departure::Moved => reference.follows_change,
        };
        let minded: Vec<Reference> = self.facts.referring.iter().filter(follows).cloned().collect();
        let mut found = vec![None; keys.len()];
        for reference in minded {
            for (part, asked) in keys.chunks(LOOK_UPS).enumerate() {
                let text = self.referring_rows(&reference, asked, part * LOOK_UPS);
                for row in self.session.connection.all(&text).await? {
                    let place = row
                        .first()
                        .cloned()
                        .flatten()
                        .and_then(|place| place.parse().ok());
                    if let Some(place) = place.and_then(|place: usize| found.get_mut(place)) {
                        *place = Some(reference.table.clone());
                    }
                }
            }
        }
        Ok(found)
    }

    fn referring_rows(&self, reference: &Reference, keys: &[Key], first: usize) -> String {
        let plan = &self.statements.plan;
        let look_up = |(place, key): (usize, &Key)| {
            format!(
                "(SELECT {} FROM {} AS t JOIN {} AS r ON {} WHERE {} LIMIT 1)",
                first + place,
                plan.source,
                reference.table,
                reference.matches(),
                plan.is_at("t.", key)
            )
        };
        let look_ups: Vec<String> = keys.iter().enumerate().map(look_up).collect();
        look_ups.join(" UNION ALL ")
    }

    /// Children first.
    async fn delete_now(&mut self, rows: &[Held<'_>]) -> Result<u64, Refusal> {
        let images: Vec<&Row> = rows.iter().map(|held| held.row).collect();
        let order = parents_first(&images, &self.own);
        let deletions = order
            .iter()
            .rev()
            .map(|place| Ok(self.statements.delete(rows[*place].key)));
        let texts = self.statements.packed("", ";\n", deletions)?;
        self.write(texts).await
    }

    async fn update_now(&mut self, changes: &[Change<'_>]) -> Result<u64, Refusal> {
        let updates = changes
            .iter()
            .map(|change| self.statements.update(change.key, change.before, change.after));
        let texts = self.statements.packed("", ";\n", updates)?;
        self.write(texts).await
    }

    /// Parents first. The server refuses all if there is a row in the place of one.
    async fn insert_now(&mut self, rows: &[&Row]) -> Result<Vec<bool>, Refusal> {
        let order = parents_first(rows, &self.own);
        let values = order.iter().map(|place| self.statements.values(rows[*place]));
        let texts = self
            .statements
            .packed(&self.statements.insert_head(), ",\n", values)?;
        let inserted = self.write(texts).await?;
        if inserted != rows.len() as u64 {
            return Err(Refusal::Rows {
                ground: Ground::Row,
                message: format!("{inserted} rows were inserted instead of {}", rows.len()),
            });
        }
        Ok(vec![true; rows.len()])
    }

    /// Reads back what was written, unless triggers may have had a say in it: then the look back at the end decides.
    async fn check_now(&mut self, stored: &[&Row]) -> Result<(), Refusal> {
        if self.facts.has_triggers() {
            return Ok(());
        }
        let keys: Vec<Key> = stored.iter().filter_map(|row| row.key(&self.shape)).collect();
        let now = self.rows_now(&keys, Locking::None).await?;
        if keys.len() != stored.len() {
            return Err(unfaithful("a key holds NULL".into()));
        }
        for (row, now) in stored.iter().zip(now) {
            let Some(now) = now else {
                return Err(unfaithful("the row is not there".into()));
            };
            let differs = |position: &usize| row.0[*position] != now.row.0[*position];
            if let Some(position) = self.statements.writable().find(differs) {
                let shown = |row: &Row| row.0[position].as_str().unwrap_or("NULL").to_owned();
                return Err(unfaithful(format!(
                    "column {} holds {:?} instead of {:?}",
                    self.shape.columns[position].name,
                    shown(&now.row),
                    shown(row)
                )));
            }
        }
        Ok(())
    }
}

fn unfaithful(what: String) -> Refusal {
    Refusal::Rows {
        ground: Ground::Row,
        message: format!("the server did not store what was written: {what}"),
    }
}

fn refusal(failure: Failure) -> Refusal {
    let ground = match failure.code {
        Some(1062 | 1169 | 1586 | 1761 | 1762) => Ground::Unique,
        Some(1216 | 1217 | 1451 | 1452) => Ground::Constraint,
        Some(code) if NOT_ABOUT_ROWS.contains(&code) => return failure.error.into(),
        Some(_) if failure.error.kind == SideErrorKind::Permanent => Ground::Row,
        _ => return failure.error.into(),
    };
    Refusal::Rows {
        ground,
        message: failure.error.message.to_string(),
    }
}

impl Target for MySqlTarget {
    fn node(&self) -> &NodeName {
        &self.session.connection.node
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        self.run(match self.role {
            Role::Written => "START TRANSACTION READ WRITE",
            Role::Read => "START TRANSACTION READ ONLY",
        })
        .boxed()
    }

    fn end(&mut self, ending: Ending) -> Answer<'_, ()> {
        self.run(match ending {
            Ending::Commit => "COMMIT",
            Ending::Rollback => "ROLLBACK",
        })
        .boxed()
    }

    fn savepoint(&mut self, step: Savepoint) -> Answer<'_, ()> {
        self.run(match step {
            Savepoint::Set => "SAVEPOINT changeling",
            Savepoint::Keep => "RELEASE SAVEPOINT changeling",
            Savepoint::Undo => "ROLLBACK TO SAVEPOINT changeling",
        })
        .boxed()
    }

    fn rows<'a>(&'a mut self, keys: &'a [Key], locking: Locking) -> Answer<'a, Vec<Option<NodeRow>>> {
        self.rows_now(keys, locking).boxed()
    }

    fn canonical<'a>(&'a mut self, rows: &'a [&'a Row]) -> Written<'a, Vec<Row>> {
        self.canonical_now(rows).boxed()
    }

    fn referenced<'a>(
        &'a mut self,
        keys: &'a [Key],
        departure: Departure,
    ) -> Written<'a, Vec<Option<String>>> {
        self.referenced_now(keys, departure).boxed()
    }

    /// UPDATE can set every column that can be written.
    fn needs_replacing(&self, _: &Row, _: &Row) -> bool {
        false
    }

    fn may_replace(&self) -> bool {
        self.shape.ignored.is_empty()
    }

    fn moves(&self, before: &Row, after: &Row) -> bool {
        let referred = self
            .facts
            .referring
            .iter()
            .filter(|reference| reference.follows_change);
        referred
            .flat_map(|reference| &reference.columns)
            .any(|(_, ours)| {
                let same =
                    |column: &crate::model::ColumnShape| column.name.to_lowercase() == ours.to_lowercase();
                let position = self.shape.columns.iter().position(same);
                position.is_none_or(|position| before.0[position] != after.0[position])
            })
    }

    fn delete<'a>(&'a mut self, rows: &'a [Held<'a>]) -> Written<'a, u64> {
        self.delete_now(rows).boxed()
    }

    fn update<'a>(&'a mut self, changes: &'a [Change<'a>]) -> Written<'a, u64> {
        self.update_now(changes).boxed()
    }

    fn insert<'a>(&'a mut self, rows: &'a [&'a Row]) -> Written<'a, Vec<bool>> {
        self.insert_now(rows).boxed()
    }

    fn check<'a>(&'a mut self, _: &'a [Key], stored: &'a [&'a Row]) -> Written<'a, ()> {
        self.check_now(stored).boxed()
    }

    fn scribe(&self) -> Box<dyn Scribe> {
        Box::new(MySqlScribe {
            node: self.node().clone(),
            statements: self.statements.clone(),
        })
    }
}
