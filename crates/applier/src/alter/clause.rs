//! What one clause does.

use super::token::{Token, TokenKind};

/// Something a clause does that the migration must know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `RENAME [TO|AS|=] table`.
    RenameTable {
        /// The new name.
        to: String,
    },
    /// `CHANGE [COLUMN] a b …`, `RENAME COLUMN a TO b`; `a` and `b` may be the same.
    RenameColumn {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// `DROP [COLUMN] a`.
    DropColumn {
        /// Its name.
        name: String,
    },
    /// `ADD [COLUMN] a …`, also each of `ADD COLUMN (a …, b …)`.
    AddColumn {
        /// Its name.
        name: String,
    },
    /// `AUTO_INCREMENT = n` of the table.
    AutoIncrement {
        /// The next value.
        value: u64,
    },
    /// `ALGORITHM = …`, `LOCK = …`: how the server should do it.
    Execution,
    /// `ENGINE = …`.
    Engine {
        /// Its name.
        name: String,
    },
    /// `ADD [CONSTRAINT …] FOREIGN KEY`, or a column's `REFERENCES`.
    AddForeignKey,
    /// `DROP FOREIGN KEY a`.
    DropForeignKey {
        /// Its name.
        name: String,
    },
    /// `DROP CONSTRAINT a`: a foreign key, a check or a unique key.
    DropConstraint {
        /// Its name.
        name: String,
    },
    /// `DROP CHECK a`, `ALTER CHECK a`.
    NamedCheck {
        /// Its name.
        name: String,
    },
    /// Something with partitions.
    Partitions(PartitionAction),
    /// `DISCARD TABLESPACE`, `IMPORT TABLESPACE`.
    Tablespace,
    /// System versioning or a period, added or dropped.
    Versioning,
    /// `ORDER BY`.
    OrderBy,
    /// `SECONDARY_LOAD`, `SECONDARY_UNLOAD`, `SECONDARY_ENGINE`.
    Secondary,
}

/// What is done with partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionAction {
    /// `PARTITION BY`, `REMOVE PARTITIONING`, `ADD`, `COALESCE`, `REORGANIZE`, `REBUILD PARTITION`: rows stay.
    Layout,
    /// `DROP`, `TRUNCATE`, `EXCHANGE`, `DISCARD`, `IMPORT`, `CONVERT PARTITION`: rows go, or come from elsewhere.
    Rows {
        /// The verb.
        verb: String,
    },
}

/// Words after ADD that make it something else than a column.
const NOT_A_COLUMN: [&str; 11] = [
    "INDEX",
    "KEY",
    "UNIQUE",
    "PRIMARY",
    "FULLTEXT",
    "SPATIAL",
    "CONSTRAINT",
    "FOREIGN",
    "CHECK",
    "PARTITION",
    "LIKE",
];

/// Reads names off a row of tokens.
struct Reader<'t, 'a> {
    rest: &'t [Token<'a>],
}

impl<'t, 'a> Reader<'t, 'a> {
    fn peek(&self) -> Option<&'t Token<'a>> {
        self.rest.first()
    }

    fn next(&mut self) -> Option<&'t Token<'a>> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Takes the keywords if they are next, all of them.
    fn take(&mut self, keywords: &[&str]) -> bool {
        let found = self.rest.len() >= keywords.len()
            && keywords
                .iter()
                .zip(self.rest)
                .all(|(keyword, token)| token.is(keyword));
        if found {
            self.rest = self.rest.get(keywords.len()..).unwrap_or_default();
        }
        found
    }

    fn take_symbol(&mut self, symbol: char) -> bool {
        let found = self.peek().is_some_and(|token| token.is_symbol(symbol));
        if found {
            self.next();
        }
        found
    }

    fn name(&mut self) -> Option<String> {
        self.next()?.name()
    }

    /// A name that may be qualified; the last part counts.
    fn qualified_name(&mut self) -> Option<String> {
        let mut name = self.name()?;
        while self.take_symbol('.') {
            name = self.name()?;
        }
        Some(name)
    }
}

/// What the clause made of these tokens does.
pub(super) fn actions(tokens: &[Token<'_>]) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut reader = Reader { rest: tokens };
    let Some(first) = reader.next() else {
        return actions;
    };
    if first.kind != TokenKind::Word {
        return actions;
    }
    match first.raw.to_ascii_uppercase().as_str() {
        "RENAME" => actions.extend(rename(&mut reader)),
        "CHANGE" => {
            reader.take(&["COLUMN"]);
            reader.take(&["IF", "EXISTS"]);
            if let (Some(from), Some(to)) = (reader.qualified_name(), reader.name()) {
                actions.push(Action::RenameColumn { from, to });
            }
        }
        "DROP" => actions.extend(drop_clause(&mut reader)),
        "ADD" => add_clause(&mut reader, &mut actions),
        "ALTER" if reader.take(&["CHECK"]) || reader.take(&["CONSTRAINT"]) => {
            actions.extend(reader.name().map(|name| Action::NamedCheck { name }));
        }
        "DISCARD" | "IMPORT" if reader.take(&["TABLESPACE"]) => actions.push(Action::Tablespace),
        verb @ ("DISCARD" | "IMPORT" | "TRUNCATE" | "EXCHANGE") if reader.take(&["PARTITION"]) => {
            actions.push(rows_of_partitions(verb));
        }
        "CONVERT" if reader.take(&["PARTITION"]) || reader.take(&["TABLE"]) => {
            actions.push(rows_of_partitions("CONVERT"));
        }
        "COALESCE" | "REORGANIZE" | "REBUILD" | "OPTIMIZE" | "ANALYZE" | "CHECK" | "REPAIR"
            if reader.take(&["PARTITION"]) =>
        {
            actions.push(Action::Partitions(PartitionAction::Layout));
        }
        "REMOVE" if reader.take(&["PARTITIONING"]) => {
            actions.push(Action::Partitions(PartitionAction::Layout));
        }
        "ORDER" if reader.take(&["BY"]) => actions.push(Action::OrderBy),
        "SECONDARY_LOAD" | "SECONDARY_UNLOAD" => actions.push(Action::Secondary),
        "MODIFY" | "ALTER" | "CONVERT" | "FORCE" | "ENABLE" | "DISABLE" => {}
        _ => options(tokens, &mut actions),
    }
    if matches!(
        first.raw.to_ascii_uppercase().as_str(),
        "ADD" | "CHANGE" | "MODIFY"
    ) && !actions.contains(&Action::AddForeignKey)
        && tokens.iter().any(|token| token.is("REFERENCES"))
    {
        actions.push(Action::AddForeignKey);
    }
    let partition_by = tokens
        .windows(2)
        .any(|pair| pair[0].depth == 0 && pair[0].is("PARTITION") && pair[1].is("BY"));
    if partition_by {
        actions.push(Action::Partitions(PartitionAction::Layout));
    }
    actions
}

fn rows_of_partitions(verb: &str) -> Action {
    Action::Partitions(PartitionAction::Rows {
        verb: verb.to_owned(),
    })
}

fn rename(reader: &mut Reader<'_, '_>) -> Option<Action> {
    if reader.take(&["COLUMN"]) {
        reader.take(&["IF", "EXISTS"]);
        let from = reader.qualified_name()?;
        reader.take(&["TO"]);
        return Some(Action::RenameColumn {
            from,
            to: reader.name()?,
        });
    }
    if reader.peek()?.is_any(&["INDEX", "KEY"]) {
        return None;
    }
    let _ = reader.take(&["TO"]) || reader.take(&["AS"]) || reader.take_symbol('=');
    Some(Action::RenameTable {
        to: reader.qualified_name()?,
    })
}

fn drop_clause(reader: &mut Reader<'_, '_>) -> Option<Action> {
    if reader.take(&["FOREIGN", "KEY"]) {
        reader.take(&["IF", "EXISTS"]);
        return Some(Action::DropForeignKey { name: reader.name()? });
    }
    if reader.take(&["CONSTRAINT"]) {
        reader.take(&["IF", "EXISTS"]);
        return Some(Action::DropConstraint { name: reader.name()? });
    }
    if reader.take(&["CHECK"]) {
        return Some(Action::NamedCheck { name: reader.name()? });
    }
    if reader.take(&["PARTITION"]) {
        return Some(rows_of_partitions("DROP"));
    }
    if reader.take(&["SYSTEM", "VERSIONING"]) || reader.take(&["PERIOD", "FOR"]) {
        return Some(Action::Versioning);
    }
    if reader.peek()?.is_any(&["INDEX", "KEY", "PRIMARY"]) {
        return None;
    }
    reader.take(&["COLUMN"]);
    reader.take(&["IF", "EXISTS"]);
    Some(Action::DropColumn {
        name: reader.qualified_name()?,
    })
}

fn add_clause(reader: &mut Reader<'_, '_>, actions: &mut Vec<Action>) {
    if reader.take(&["PARTITION"]) {
        actions.push(Action::Partitions(PartitionAction::Layout));
        return;
    }
    if reader.take(&["SYSTEM", "VERSIONING"]) || reader.take(&["PERIOD", "FOR"]) {
        actions.push(Action::Versioning);
        return;
    }
    let column = reader.take(&["COLUMN"]);
    reader.take(&["IF", "NOT", "EXISTS"]);
    if reader.peek().is_some_and(|token| token.is_symbol('(')) {
        let items = reader.rest.get(1..).unwrap_or_default();
        let items = items
            .get(..items.iter().position(|t| t.depth == 0).unwrap_or(items.len()))
            .unwrap_or_default();
        for item in items.split(|token| token.depth == 1 && token.is_symbol(',')) {
            added(item, false, actions);
        }
        return;
    }
    added(reader.rest, column, actions);
}

/// One thing added: a column, a key, a constraint. `column` where the word COLUMN has been read.
fn added(item: &[Token<'_>], column: bool, actions: &mut Vec<Action>) {
    let Some(first) = item.first() else { return };
    if !column {
        if first.is_any(&["CONSTRAINT", "FOREIGN"]) {
            if item
                .windows(2)
                .any(|pair| pair[0].is("FOREIGN") && pair[1].is("KEY"))
            {
                actions.push(Action::AddForeignKey);
            }
            return;
        }
        let vector_index = first.is("VECTOR") && item.get(1).is_some_and(|t| t.is_any(&["INDEX", "KEY"]));
        if first.is_any(&NOT_A_COLUMN) || vector_index {
            return;
        }
    }
    if let Some(name) = (Reader { rest: item }).qualified_name() {
        actions.push(Action::AddColumn { name });
    }
}

/// Table options, which may stand side by side without commas.
fn options(tokens: &[Token<'_>], actions: &mut Vec<Action>) {
    let mut reader = Reader { rest: tokens };
    let mut previous_is_default = false;
    while let Some(token) = reader.next() {
        if token.depth > 0 || token.kind != TokenKind::Word {
            previous_is_default = false;
            continue;
        }
        let word = token.raw.to_ascii_uppercase();
        match word.as_str() {
            "ENGINE" | "AUTO_INCREMENT" | "ALGORITHM" | "LOCK" => {
                reader.take_symbol('=');
                let Some(value) = reader.next() else { break };
                let Some(text) = value.name_or_text() else {
                    continue;
                };
                match word.as_str() {
                    "ENGINE" => actions.push(Action::Engine { name: text }),
                    "AUTO_INCREMENT" => {
                        if let Ok(value) = text.parse() {
                            actions.push(Action::AutoIncrement { value });
                        }
                    }
                    _ => actions.push(Action::Execution),
                }
            }
            "WITH" if reader.take(&["SYSTEM", "VERSIONING"]) => actions.push(Action::Versioning),
            "SECONDARY_ENGINE" => actions.push(Action::Secondary),
            // The value of any other option is not looked at: COMMENT='ENGINE=x' is one token.
            _ if !previous_is_default && reader.take_symbol('=') => {
                reader.next();
            }
            _ => {}
        }
        previous_is_default = word == "DEFAULT";
    }
}
