//! The one place where PostgreSQL names and texts are quoted.

use changeling_core::ident::TableName;

/// Quotes an identifier; a double quote inside is doubled.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a table's full name.
#[must_use]
pub fn quote_table(name: &TableName) -> String {
    format!("{}.{}", quote(&name.schema), quote(&name.table))
}

/// Quotes a text as a literal that means the same whatever `standard_conforming_strings` is.
#[must_use]
pub fn quote_text(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(
            quote_table(&TableName::new("a\"b", "Müller 1")),
            "\"a\"\"b\".\"Müller 1\""
        );
        assert_eq!(quote_text("it's"), "'it''s'");
        assert_eq!(quote_text("a\\'"), "E'a\\\\'''");
    }
}
