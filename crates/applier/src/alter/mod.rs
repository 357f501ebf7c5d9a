//! Reads an ALTER as far as the migration must act on it; the server reads the rest.
//!
//! This is no SQL parser: a token-wise look at the top-level clauses. What it concludes about columns is
//! checked against the real tables before and after the ALTER ([`crate::inspector`]), so that a clause it
//! does not know cannot silently move data to the wrong place.

mod clause;
mod token;

use changeling_core::ident::TableName;

pub use clause::{Action, PartitionAction};

use token::Token;

/// Why an ALTER cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// Nothing there.
    #[error("the ALTER is empty: say with --alter what to change")]
    Empty,
    /// A quote, comment or parenthesis has no end.
    #[error("the ALTER has a {what} without an end (at character {at})")]
    Unterminated {
        /// What is open.
        what: &'static str,
        /// Byte offset.
        at: usize,
    },
    /// A closing parenthesis too many.
    #[error("the ALTER has a closing parenthesis too many (at character {at})")]
    Unbalanced {
        /// Byte offset.
        at: usize,
    },
    /// More after a semicolon.
    #[error("the ALTER holds more than one statement; put all changes of a table into one ALTER")]
    SeveralStatements,
    /// `ALTER TABLE` without a table.
    #[error("no table name after ALTER TABLE")]
    NoTable,
    /// `ALTER IGNORE TABLE`.
    #[error(
        "ALTER IGNORE TABLE throws rows away where they do not fit; leave out IGNORE and see which do not"
    )]
    Ignore,
}

/// One top-level clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// As it is written.
    pub text: String,
    /// What it does, as far as the migration must know; often nothing.
    pub actions: Vec<Action>,
}

/// An ALTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alter {
    /// The schema it names, if it is a full statement that names one.
    pub schema: Option<String>,
    /// The table it names, if it is a full statement.
    pub table: Option<String>,
    /// Everything after the table's name, as it is written.
    pub body: String,
    /// The clauses of the body.
    pub clauses: Vec<Clause>,
    executable_comments: bool,
}

impl Alter {
    /// Reads an ALTER, with or without `ALTER TABLE …` before it.
    ///
    /// # Errors
    /// If it is empty, unfinished, or more than one statement.
    pub fn parse(text: &str) -> Result<Self, AlterError> {
        Self::parse_with(text, true)
    }

    /// As [`Alter::parse`], for a server whose `sql_mode` has `NO_BACKSLASH_ESCAPES` where
    /// `backslash_escapes` is false.
    ///
    /// # Errors
    /// As [`Alter::parse`].
    pub fn parse_with(text: &str, backslash_escapes: bool) -> Result<Self, AlterError> {
        let tokens = token::tokenize(text, backslash_escapes)?;
        let mut list = tokens.list.as_slice();
        if let Some(end) = list.iter().position(|token| token.is_symbol(';')) {
            let (statement, after) = list.split_at(end);
            if after.iter().any(|token| !token.is_symbol(';')) {
                return Err(AlterError::SeveralStatements);
            }
            list = statement;
        }
        let (schema, table, rest) = head(list)?;
        let (Some(first), Some(last)) = (rest.first(), rest.last()) else {
            return Err(AlterError::Empty);
        };
        // Without a head the body is the text as given: it may begin with an executable comment.
        let begin = if table.is_some() { first.start } else { 0 };
        let body_end = if tokens.executable_comments {
            text.trim_end().trim_end_matches(';').len()
        } else {
            last.end()
        };
        let body = text.get(begin..body_end).unwrap_or_default().trim().to_owned();
        let clauses = rest
            .split(|token| token.depth == 0 && token.is_symbol(','))
            .filter_map(|tokens| {
                let (first, last) = (tokens.first()?, tokens.last()?);
                let text = text.get(first.start..last.end())?.to_owned();
                Some(Clause {
                    text,
                    actions: clause::actions(tokens),
                })
            })
            .collect();
        Ok(Self {
            schema,
            table,
            body,
            clauses,
            executable_comments: tokens.executable_comments,
        })
    }

    /// The table to change: what was asked for, and what is missing there from this statement.
    #[must_use]
    pub fn target(&self, asked: &TableName) -> TableName {
        let pick = |asked: &str, own: &Option<String>| {
            if asked.is_empty() {
                own.clone().unwrap_or_default()
            } else {
                asked.to_owned()
            }
        };
        TableName::new(pick(&asked.schema, &self.schema), pick(&asked.table, &self.table))
    }

    /// Everything the ALTER does that the migration must know of.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.clauses.iter().flat_map(|clause| &clause.actions)
    }

    /// Columns that get another name, letter case aside: (old, new).
    #[must_use]
    pub fn renames(&self) -> Vec<(&str, &str)> {
        self.actions()
            .filter_map(|action| match action {
                Action::RenameColumn { from, to } if from.to_lowercase() != to.to_lowercase() => {
                    Some((from.as_str(), to.as_str()))
                }
                _ => None,
            })
            .collect()
    }

    /// The body without the clauses of which `strip` is true: how the server should do it
    /// (`ALGORITHM`, `LOCK`), foreign keys that the ghost table does not have.
    ///
    /// `None` if the clauses cannot be taken apart because of executable comments around them.
    #[must_use]
    pub fn body_without(&self, strip: impl Fn(&Action) -> bool) -> Option<String> {
        let stripped = |clause: &&Clause| !clause.actions.is_empty() && clause.actions.iter().all(&strip);
        if !self.clauses.iter().any(|clause| stripped(&clause)) {
            return Some(self.body.clone());
        }
        if self.executable_comments {
            return None;
        }
        let kept: Vec<&str> = self
            .clauses
            .iter()
            .filter(|clause| !stripped(clause))
            .map(|clause| clause.text.as_str())
            .collect();
        Some(kept.join(", "))
    }
}

/// The items between the parentheses of a `CREATE TABLE` as the server shows it: columns, keys, constraints.
/// Empty if it cannot be read.
#[must_use]
pub fn table_items(definition: &str) -> Vec<&str> {
    let Ok(tokens) = token::tokenize(definition, true) else {
        return Vec::new();
    };
    let Some(open) = tokens
        .list
        .iter()
        .position(|token| token.depth == 0 && token.is_symbol('('))
    else {
        return Vec::new();
    };
    let inner = tokens.list.get(open + 1..).unwrap_or_default();
    let inner = inner.split(|token| token.depth == 0).next().unwrap_or_default();
    let items = inner.split(|token| token.depth == 1 && token.is_symbol(','));
    let mut ends = items
        .clone()
        .filter_map(|item| Some((item.first()?.start, item.last()?.end())))
        .collect::<Vec<_>>();
    // An executable comment at the end of an item is part of it: take all up to the comma.
    let starts: Vec<usize> = ends.iter().skip(1).map(|(start, _)| *start).collect();
    let close = tokens
        .list
        .iter()
        .skip(open + 1)
        .find(|token| token.depth == 0)
        .map(Token::end);
    for ((_, end), next) in ends.iter_mut().zip(starts.into_iter().chain(close)) {
        let between = definition.get(*end..next).unwrap_or_default();
        let stop = between.rfind([',', ')']).unwrap_or(0);
        *end += between.get(..stop).map_or(0, |gap| gap.trim_end().len());
    }
    ends.into_iter()
        .filter_map(|(start, end)| definition.get(start..end))
        .collect()
}

/// The body of an ALTER with other names for the constraints that it drops or alters.
#[must_use]
pub fn with_constraint_names(body: &str, new_name: impl Fn(&str) -> Option<String>) -> String {
    let Ok(tokens) = token::tokenize(body, true) else {
        return body.to_owned();
    };
    let mut text = String::with_capacity(body.len());
    let mut copied = 0;
    for window in tokens.list.windows(3) {
        let [verb, kind, name] = window else { continue };
        if verb.depth > 0 || !verb.is_any(&["DROP", "ALTER"]) || !kind.is_any(&["CHECK", "CONSTRAINT"]) {
            continue;
        }
        if let Some(new) = name.name().and_then(|name| new_name(&name)) {
            text.push_str(body.get(copied..name.start).unwrap_or_default());
            text.push_str(&changeling_core::ident::quote(&new));
            copied = name.end();
        }
    }
    text.push_str(body.get(copied..).unwrap_or_default());
    text
}

/// The checks of a `CREATE TABLE` as the server shows it, by name, in order: (name, condition).
#[must_use]
pub fn named_checks(definition: &str) -> Vec<(String, String)> {
    table_items(definition)
        .into_iter()
        .filter_map(|item| {
            let tokens = token::tokenize(item, true).ok()?.list;
            let [constraint, name, check, condition, ..] = tokens.as_slice() else {
                return None;
            };
            (constraint.is("CONSTRAINT") && check.is("CHECK"))
                .then(|| Some((name.name()?, item.get(condition.start..)?.to_owned())))?
        })
        .collect()
}

/// What a trigger does: the text of its `CREATE TRIGGER` after `FOR EACH ROW` and its place in the order.
#[must_use]
pub fn trigger_body(definition: &str, backslash_escapes: bool) -> Option<String> {
    let tokens = token::tokenize(definition, backslash_escapes).ok()?;
    let at = tokens
        .list
        .windows(3)
        .position(|w| w[0].is("FOR") && w[1].is("EACH") && w[2].is("ROW"))?;
    let mut body = tokens.list.get(at + 3..)?;
    if body.first()?.is_any(&["FOLLOWS", "PRECEDES"]) {
        body = body.get(2..)?;
        if body.first()?.is_symbol('.') {
            body = body.get(2..)?;
        }
    }
    definition
        .get(body.first()?.start..)
        .map(|text| text.trim_end().to_owned())
}

type Head<'t, 'a> = (Option<String>, Option<String>, &'t [Token<'a>]);

/// Takes `ALTER [ONLINE|OFFLINE] [IGNORE] TABLE [IF EXISTS] [schema.]table [WAIT n|NOWAIT]` off the front,
/// if it is there.
fn head<'t, 'a>(list: &'t [Token<'a>]) -> Result<Head<'t, 'a>, AlterError> {
    let Some((first, mut rest)) = list.split_first() else {
        return Err(AlterError::Empty);
    };
    if !first.is("ALTER") {
        return Ok((None, None, list));
    }
    let mut ignore = false;
    while let [modifier, after @ ..] = rest {
        match modifier {
            word if word.is_any(&["ONLINE", "OFFLINE"]) => rest = after,
            word if word.is("IGNORE") => {
                ignore = true;
                rest = after;
            }
            _ => break,
        }
    }
    let Some((table, mut rest)) = rest.split_first().filter(|(word, _)| word.is("TABLE")) else {
        // `ALTER COLUMN …`, `ALTER INDEX …`: a clause.
        return Ok((None, None, list));
    };
    debug_assert!(table.is("TABLE"));
    if ignore {
        return Err(AlterError::Ignore);
    }
    if let [a, b, after @ ..] = rest
        && a.is("IF")
        && b.is("EXISTS")
    {
        rest = after;
    }
    let (first, mut rest) = rest.split_first().ok_or(AlterError::NoTable)?;
    let mut schema = None;
    let mut table = first.name().ok_or(AlterError::NoTable)?;
    if let [dot, second, after @ ..] = rest
        && dot.is_symbol('.')
    {
        schema = Some(table);
        table = second.name().ok_or(AlterError::NoTable)?;
        rest = after;
    }
    match rest {
        [wait, seconds, after @ ..]
            if wait.is("WAIT") && seconds.raw.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            rest = after;
        }
        [nowait, after @ ..] if nowait.is("NOWAIT") => rest = after,
        _ => {}
    }
    Ok((schema, Some(table), rest))
}

#[cfg(test)]
mod tests;
