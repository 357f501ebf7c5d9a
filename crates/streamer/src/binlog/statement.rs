//! Statements that are logged as text: transaction control, and what they do to watched tables.
//!
//! This is no parser of SQL: it looks for what it knows among the pieces of a text. Where it cannot tell, it errs towards reporting: a stream that stops for no
//! reason costs a restart, one that goes on costs rows.

use changeling_core::change::DdlKind;
use changeling_core::ident::TableName;

use super::bytes::{Bytes, Truncated};
use super::event::Xid;
use super::token::{Token, tokens};
use super::watched::Watched;

/// A query event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// The schema that unqualified names belong to.
    pub(crate) schema: &'a [u8],
    pub(crate) text: &'a [u8],
    sql_mode: u64,
}

impl<'a> Query<'a> {
    /// Reads a query event's body; `load` for the event that ends a `LOAD DATA` by statement.
    pub(crate) fn read(body: &'a [u8], load: bool) -> Result<Self, Truncated> {
        let mut bytes = Bytes(body);
        bytes.skip(8)?;
        let schema = usize::from(bytes.u8()?);
        bytes.skip(2)?;
        let variables = usize::from(bytes.u16()?);
        if load {
            bytes.skip(4 + 4 + 4 + 1)?;
        }
        let sql_mode = sql_mode(bytes.take(variables)?);
        let schema = bytes.take(schema)?;
        bytes.skip(1)?;
        Ok(Self {
            schema,
            text: bytes.rest(),
            sql_mode,
        })
    }
}

/// The flags and the SQL mode come first in the list of variables.
fn sql_mode(variables: &[u8]) -> u64 {
    let mut bytes = Bytes(variables);
    while let Ok(code) = bytes.u8() {
        match code {
            0 => drop(bytes.u32()),
            1 => return bytes.u64().unwrap_or(0),
            _ => break,
        }
    }
    0
}

/// What a statement means to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Begin,
    Commit,
    Rollback,
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackTo,
    Savepoint,
    XaStart(Xid),
    XaEnd,
    XaCommit(Xid),
    XaRollback(Xid),
    /// It touches watched tables; or none, if the list is empty.
    Touches(Vec<(TableName, DdlKind)>),
}

/// Tells what a statement means.
pub(crate) fn meaning(query: &Query<'_>, watched: &Watched) -> Meaning {
    // Nearly all query events are these two.
    match query.text {
        b"BEGIN" => return Meaning::Begin,
        b"COMMIT" => return Meaning::Commit,
        _ => {}
    }
    let text = String::from_utf8_lossy(query.text);
    let tokens = tokens(&text, query.sql_mode);
    let schema = String::from_utf8_lossy(query.schema);
    let statement = Statement {
        tokens: &tokens,
        schema: &schema,
        watched,
    };
    statement
        .control()
        .unwrap_or_else(|| Meaning::Touches(statement.touched()))
}

/// A statement in pieces.
#[derive(Clone, Copy)]
struct Statement<'a> {
    tokens: &'a [Token],
    schema: &'a str,
    watched: &'a Watched,
}

impl Statement<'_> {
    fn is(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// Behind all of these words, each of which may be missing.
    fn skip(&self, mut at: usize, words: &[&str]) -> usize {
        while self.is_any(at, words) {
            at += 1;
        }
        at
    }

    /// The first place at or after `at` with this word.
    fn find(&self, at: usize, word: &str) -> Option<usize> {
        (at..self.tokens.len()).find(|&at| self.is(at, word))
    }

    fn control(&self) -> Option<Meaning> {
        if self.is(0, "XA") {
            return self.xa();
        }
        Some(
            if self.is(0, "BEGIN") || self.is(0, "START") && self.is(1, "TRANSACTION") {
                Meaning::Begin
            } else if self.is(0, "COMMIT") {
                Meaning::Commit
            } else if self.is(0, "ROLLBACK") {
                let to = self.skip(1, &["WORK"]);
                if self.is(to, "TO") {
                    Meaning::RollbackTo
                } else {
                    Meaning::Rollback
                }
            } else if self.is_any(0, &["SAVEPOINT", "RELEASE"]) {
                Meaning::Savepoint
            } else {
                return None;
            },
        )
    }

    fn xa(&self) -> Option<Meaning> {
        let xid = || self.xid(2);
        Some(match self.tokens.get(1) {
            Some(Token::Word(verb)) => match verb.to_ascii_uppercase().as_str() {
                "START" | "BEGIN" => Meaning::XaStart(xid()?),
                "END" => Meaning::XaEnd,
                "COMMIT" => Meaning::XaCommit(xid()?),
                "ROLLBACK" => Meaning::XaRollback(xid()?),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// `X'6162',X'63',1`; branch and format may be missing.
    fn xid(&self, mut at: usize) -> Option<Xid> {
        let global = self.xid_part(&mut at)?;
        let mut xid = Xid {
            format: 1,
            global,
            branch: Vec::new(),
        };
        if self.tokens.get(at) == Some(&Token::Sign(',')) {
            at += 1;
            xid.branch = self.xid_part(&mut at)?;
        }
        if self.tokens.get(at) == Some(&Token::Sign(',')) {
            let Some(Token::Word(format)) = self.tokens.get(at + 1) else {
                return None;
            };
            xid.format = match format.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => format.parse().ok()?,
            };
        }
        Some(xid)
    }

    fn xid_part(&self, at: &mut usize) -> Option<Vec<u8>> {
        let hexadecimal = self.is(*at, "X");
        *at += usize::from(hexadecimal);
        let Some(Token::Text(text)) = self.tokens.get(*at) else {
            return None;
        };
        *at += 1;
        if hexadecimal {
            unhex(text)
        } else {
            Some(text.clone().into_bytes())
        }
    }

    /// The name that begins at `at`: schema, table, and where it ends.
    fn name(&self, at: usize) -> Option<(String, String, usize)> {
        let part = |at: usize| match self.tokens.get(at) {
            Some(Token::Word(name) | Token::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let first = part(at)?;
        if self.tokens.get(at + 1) == Some(&Token::Sign('.')) {
            let second = part(at + 2)?;
            return Some((first, second, at + 3));
        }
        Some((self.schema.to_owned(), first, at + 1))
    }

    fn watched_at(&self, at: usize) -> Option<TableName> {
        let (schema, table, _) = self.name(at)?;
        self.watched.find(&schema, &table).cloned()
    }

    /// Every watched table that is named anywhere.
    fn mentioned(&self, kind: DdlKind) -> Vec<(TableName, DdlKind)> {
        let mut found: Vec<(TableName, DdlKind)> = Vec::new();
        for at in 0..self.tokens.len() {
            let behind_point = at > 0 && self.tokens.get(at - 1) == Some(&Token::Sign('.'));
            let plain = match self.tokens.get(at) {
                // `t.a` may be a column of table t of the default schema.
                Some(Token::Word(name) | Token::Name(name)) if !behind_point => {
                    self.watched.find(self.schema, name).cloned()
                }
                _ => None,
            };
            for table in plain
                .into_iter()
                .chain(self.watched_at(at).filter(|_| !behind_point))
            {
                if !found.iter().any(|(known, _)| *known == table) {
                    found.push((table, kind));
                }
            }
        }
        found
    }

    fn at_all(&self, places: impl IntoIterator<Item = usize>, kind: DdlKind) -> Vec<(TableName, DdlKind)> {
        let mut found: Vec<(TableName, DdlKind)> = Vec::new();
        for table in places.into_iter().filter_map(|at| self.watched_at(at)) {
            if !found.iter().any(|(known, _)| *known == table) {
                found.push((table, kind));
            }
        }
        found
    }

    fn from(&self, at: usize) -> Self {
        Statement {
            tokens: self.tokens.get(at..).unwrap_or_default(),
            ..*self
        }
    }

    /// Which watched tables the statement changes, and how.
    fn touched(&self) -> Vec<(TableName, DdlKind)> {
        let Some(Token::Word(verb)) = self.tokens.first() else {
            return Vec::new();
        };
        match verb.to_ascii_uppercase().as_str() {
            "ALTER" => self.alter(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "RENAME" => self.rename(),
            "TRUNCATE" => self.at_all([self.skip(1, &["TABLE"])], DdlKind::Truncate),
            "REPAIR" => self.mentioned(DdlKind::Truncate),
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "CALL" => self.dml(),
            "SET" if self.is(1, "STATEMENT") => match self.find(2, "FOR") {
                Some(at) => self.from(at + 1).touched(),
                None => Vec::new(),
            },
            // A function that writes, logged as text: nobody can tell what it wrote.
            "SELECT" | "DO" => self.all_watched(DdlKind::StatementDml),
            "ANALYZE" if !self.is(self.skip(1, &["LOCAL", "NO_WRITE_TO_BINLOG"]), "TABLE") => {
                self.mentioned(DdlKind::StatementDml)
            }
            "ANALYZE" | "OPTIMIZE" | "CHECK" | "GRANT" | "REVOKE" | "FLUSH" | "SET" | "LOCK" | "UNLOCK"
            | "INSTALL" | "UNINSTALL" | "USE" | "RESET" | "PURGE" | "KILL" | "CACHE" | "COMMENT" => {
                Vec::new()
            }
            _ => self.mentioned(DdlKind::Definition),
        }
    }

    fn all_watched(&self, kind: DdlKind) -> Vec<(TableName, DdlKind)> {
        let watches = self.watched.watches().iter();
        watches.map(|watch| (watch.table.clone(), kind)).collect()
    }

    /// Rows changed by a text. A watched table need not be named by it: a view over it may be, or a table whose
    /// trigger writes it.
    fn dml(&self) -> Vec<(TableName, DdlKind)> {
        let changed = if self.is_any(0, &["INSERT", "REPLACE"]) {
            // Other tables named are read. Checksum tools write what they read here as text, all day.
            let modifiers = ["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"];
            self.at_all([self.skip(1, &modifiers)], DdlKind::StatementDml)
        } else {
            self.mentioned(DdlKind::StatementDml)
        };
        if changed.is_empty()
            && self
                .names()
                .any(|(schema, name)| self.watched.is_gateway(&schema, &name))
        {
            return self.all_watched(DdlKind::StatementDml);
        }
        changed
    }

    /// Everything that may be a name.
    fn names(&self) -> impl Iterator<Item = (String, String)> {
        // `b` of `a.b` is no name by itself.
        let begins = |at: &usize| *at == 0 || self.tokens.get(at - 1) != Some(&Token::Sign('.'));
        let names = (0..self.tokens.len())
            .filter(begins)
            .filter_map(|at| self.name(at));
        names.map(|(schema, name, _)| (schema, name))
    }

    /// A view, trigger or routine is made or altered: remembers it if it leads to a watched table. `noun` is where
    /// the word for it stands.
    fn note_gateway(&self, noun: usize) {
        let name = if self.is(noun, "TRIGGER") {
            self.find(noun + 1, "ON").map(|on| on + 1)
        } else {
            Some(self.skip(noun + 1, &["IF", "NOT", "EXISTS"]))
        };
        let Some((schema, name, behind)) = name.and_then(|at| self.name(at)) else {
            return;
        };
        let leads_on = |(schema, name): (String, String)| {
            self.watched.find(&schema, &name).is_some() || self.watched.is_gateway(&schema, &name)
        };
        if self.from(behind).names().any(leads_on) {
            self.watched.add_gateway(schema, name);
        }
    }

    /// Where it is said what is created, altered or dropped, if that is something that holds statements or an index.
    fn noun(&self, at: usize) -> Option<usize> {
        const NOUNS: [&str; 7] = [
            "INDEX",
            "TRIGGER",
            "VIEW",
            "PROCEDURE",
            "FUNCTION",
            "EVENT",
            "USER",
        ];
        (at..self.tokens.len()).find(|&at| self.is_any(at, &NOUNS))
    }

    fn alter(&self) -> Vec<(TableName, DdlKind)> {
        let at = self.skip(1, &["ONLINE", "OFFLINE", "IGNORE"]);
        if !self.is(at, "TABLE") {
            if let Some(noun) = self.noun(1).filter(|&noun| self.is(noun, "VIEW")) {
                self.note_gateway(noun);
            }
            return Vec::new();
        }
        let target = self.skip(at + 1, &["IF", "EXISTS"]);
        let has = |first: &str, second: &str| {
            (target..self.tokens.len()).any(|at| self.is(at, first) && self.is(at + 1, second))
        };
        let loses_rows = has("DROP", "PARTITION")
            || has("TRUNCATE", "PARTITION")
            || has("EXCHANGE", "PARTITION")
            || has("CONVERT", "PARTITION")
            || has("CONVERT", "TABLE")
            || has("DISCARD", "TABLESPACE")
            || has("IMPORT", "TABLESPACE");
        let kind = if loses_rows {
            DdlKind::Truncate
        } else {
            DdlKind::Definition
        };
        let mut places = vec![target];
        for at in target..self.tokens.len() {
            if self.is(at, "REFERENCES") || self.is(at, "TABLE") {
                places.push(at + 1);
            } else if self.is(at, "RENAME") && !self.is_any(at + 1, &["COLUMN", "INDEX", "KEY"]) {
                places.push(self.skip(at + 1, &["TO", "AS"]));
            }
        }
        self.at_all(places, kind)
    }

    fn references(&self) -> impl Iterator<Item = usize> {
        (0..self.tokens.len())
            .filter(|&at| self.is(at, "REFERENCES"))
            .map(|at| at + 1)
    }

    fn create(&self) -> Vec<(TableName, DdlKind)> {
        let replaces = self.is(1, "OR") && self.is(2, "REPLACE");
        let at = if replaces { 3 } else { 1 };
        if self.is(at, "TABLE") {
            let target = self.skip(at + 1, &["IF", "NOT", "EXISTS"]);
            // A watched table exists, so that `IF NOT EXISTS` did nothing. Services do this at every start.
            let harmless = target > at + 1 && !replaces;
            let own = (!harmless).then_some(target);
            return self.at_all(own.into_iter().chain(self.references()), DdlKind::Definition);
        }
        if self.is(at, "TEMPORARY") {
            return Vec::new();
        }
        let Some(noun) = self.noun(at) else {
            return Vec::new();
        };
        if self.is_any(noun, &["TRIGGER", "VIEW", "PROCEDURE", "FUNCTION"]) {
            self.note_gateway(noun);
        }
        if !self.is_any(noun, &["INDEX", "TRIGGER"]) {
            return Vec::new();
        }
        match self.find(noun + 1, "ON") {
            Some(on) => self.at_all([on + 1], DdlKind::Definition),
            None => self.mentioned(DdlKind::Definition),
        }
    }

    fn drop(&self) -> Vec<(TableName, DdlKind)> {
        if self.is_any(1, &["DATABASE", "SCHEMA"]) {
            let at = self.skip(2, &["IF", "EXISTS"]);
            let Some((_, schema, _)) = self.name(at) else {
                return Vec::new();
            };
            let names = self.watched.watches().iter().map(|watch| &watch.table);
            let inside = names.filter(|name| self.watched.same(&name.schema, &schema));
            return inside.map(|name| (name.clone(), DdlKind::Definition)).collect();
        }
        if self.is_any(1, &["TABLE", "TABLES"]) {
            let first = self.skip(2, &["IF", "EXISTS"]);
            return self.at_all(first..self.tokens.len(), DdlKind::Definition);
        }
        if self.is(1, "INDEX") || self.is(2, "INDEX") {
            let on = self.find(2, "ON").map(|on| on + 1);
            return self.at_all(on, DdlKind::Definition);
        }
        Vec::new()
    }

    fn rename(&self) -> Vec<(TableName, DdlKind)> {
        if self.is_any(1, &["TABLE", "TABLES"]) {
            return self.at_all(
                self.skip(2, &["IF", "EXISTS"])..self.tokens.len(),
                DdlKind::Definition,
            );
        }
        Vec::new()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
