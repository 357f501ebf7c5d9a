//! Names of things in a database, and the one place where they are quoted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Quotes one MySQL identifier with backticks; a backtick inside is doubled.
#[must_use]
pub fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('`');
    for character in name.chars() {
        if character == '`' {
            quoted.push('`');
        }
        quoted.push(character);
    }
    quoted.push('`');
    quoted
}

/// Quotes a text as a MySQL string literal that means the same under every `sql_mode`.
///
/// Texts without a quote or a backslash are written plainly; all others in hexadecimal, because
/// `NO_BACKSLASH_ESCAPES` changes what a backslash means.
#[must_use]
pub fn quote_text(text: &str) -> String {
    if text
        .bytes()
        .all(|byte| byte != b'\\' && byte != b'\'' && (b' '..0x7f).contains(&byte))
    {
        return format!("'{text}'");
    }
    let mut literal = String::with_capacity(text.len() * 2 + 14);
    literal.push_str("_utf8mb4 X'");
    push_hex(&mut literal, text.as_bytes());
    literal.push('\'');
    literal
}

/// Appends the upper-case hexadecimal digits of `bytes`.
pub fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// A table's full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// The schema, which MySQL also calls the database.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A table's name from its two parts, unquoted.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            table: table.into(),
        }
    }

    /// The name as it is written in SQL: `` `schema`.`table` ``.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }

    /// Another table of the same schema.
    #[must_use]
    pub fn sibling(&self, table: impl Into<String>) -> Self {
        Self {
            schema: self.schema.clone(),
            table: table.into(),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quoted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtick_is_doubled() {
        assert_eq!(quote("a`b"), "`a``b`");
        assert_eq!(TableName::new("s", "t`").to_string(), "`s`.`t```");
    }

    #[test]
    fn a_text_that_sql_mode_could_change_is_written_in_hexadecimal() {
        assert_eq!(quote_text("plain"), "'plain'");
        assert_eq!(quote_text("it's"), "_utf8mb4 X'69742773'");
        assert_eq!(quote_text("a\\"), "_utf8mb4 X'615C'");
    }
}
