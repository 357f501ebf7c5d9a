//! What an account may do, as `SHOW GRANTS` of MySQL and MariaDB tells.

use std::collections::BTreeSet;

use crate::ident::TableName;

/// On what something is granted; routines are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    /// `*.*`
    Everything,
    /// A pattern of schemas.
    Schema(String),
    Table(TableName),
}

/// One line of `SHOW GRANTS`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    privileges: BTreeSet<String>,
    object: Object,
    revoked: bool,
}

/// What an account may do, as `SHOW GRANTS` tells (active roles included).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    list: Vec<Grant>,
    /// Whether `_` and `%` in schema names are wildcards.
    patterns: bool,
}

impl Grants {
    /// Reads the lines of `SHOW GRANTS`. `patterns` tells whether `_` and `%` in names of schemas are wildcards, which they
    /// are unless `partial_revokes` is on.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>, patterns: bool) -> Self {
        Self {
            list: lines.into_iter().filter_map(parse_line).collect(),
            patterns,
        }
    }

    /// Whether the account has a privilege on all servers' objects.
    #[must_use]
    pub fn globally(&self, privilege: &str) -> bool {
        self.list
            .iter()
            .any(|grant| !grant.revoked && grant.object == Object::Everything && grant.allows(privilege))
    }

    /// Whether the account has a privilege on a schema.
    #[must_use]
    pub fn on_schema(&self, privilege: &str, schema: &str) -> bool {
        let applies = |grant: &&Grant| {
            grant.allows(privilege)
                && match &grant.object {
                    Object::Schema(pattern) if self.patterns => matches_pattern(pattern, schema),
                    Object::Schema(name) => name == schema,
                    Object::Everything | Object::Table(_) => false,
                }
        };
        let revoked = self
            .list
            .iter()
            .filter(|grant| grant.revoked)
            .any(|grant| applies(&grant));
        self.list
            .iter()
            .filter(|grant| !grant.revoked)
            .any(|grant| applies(&grant))
            || (self.globally(privilege) && !revoked)
    }

    /// Whether the account has a privilege on a table.
    #[must_use]
    pub fn on_table(&self, privilege: &str, table: &TableName) -> bool {
        let granted = |grant: &Grant| {
            !grant.revoked && grant.allows(privilege) && grant.object == Object::Table(table.clone())
        };
        self.on_schema(privilege, &table.schema) || self.list.iter().any(granted)
    }
}

impl Grant {
    fn allows(&self, privilege: &str) -> bool {
        self.privileges.contains("ALL PRIVILEGES")
            || self.privileges.contains("ALL")
            || self.privileges.contains(privilege)
    }
}

fn parse_line(line: &str) -> Option<Grant> {
    let (rest, revoked) = match line.strip_prefix("GRANT ") {
        Some(rest) => (rest, false),
        None => (line.strip_prefix("REVOKE ")?, true),
    };
    let (privileges, object) = rest.split_once(" ON ")?;
    let object = object_of(object)?;
    // A privilege on some columns only, `SELECT (a, b)`, is none on the table.
    let mut names = BTreeSet::new();
    let mut depth = 0;
    let mut name = String::new();
    let mut columns = false;
    for c in privileges.chars().chain([',']) {
        match c {
            '(' => {
                depth += 1;
                columns = true;
            }
            ')' => depth -= 1,
            ',' if depth == 0 => {
                if !columns {
                    names.insert(name.trim().to_ascii_uppercase());
                }
                name.clear();
                columns = false;
            }
            _ if depth == 0 => name.push(c),
            _ => {}
        }
    }
    Some(Grant {
        privileges: names,
        object,
        revoked,
    })
}

fn object_of(text: &str) -> Option<Object> {
    if text.starts_with("*.*") {
        return Some(Object::Everything);
    }
    let (schema, rest) = quoted(text)?;
    let rest = rest.strip_prefix('.')?;
    if rest.starts_with('*') {
        return Some(Object::Schema(schema));
    }
    let (table, _) = quoted(rest)?;
    Some(Object::Table(TableName { schema, table }))
}

/// A quoted name, and what follows it. Under `ANSI_QUOTES` the server writes other quotes.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '`' | '"'))?;
    let mut name = String::new();
    let mut rest = &text[1..];
    loop {
        let (part, after) = rest.split_once(quote)?;
        name.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => {
                name.push(quote);
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// SQL's `LIKE` with `%`, `_` and `\`.
#[must_use]
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Positions in the pattern that are reachable after each character of the text.
    let mut reached = vec![false; pattern.len() + 1];
    let close = |reached: &mut Vec<bool>| {
        for at in 0..pattern.len() {
            if reached[at] && pattern[at] == '%' {
                reached[at + 1] = true;
            }
        }
    };
    reached[0] = true;
    close(&mut reached);
    for character in text {
        let mut next = vec![false; pattern.len() + 1];
        for at in 0..pattern.len() {
            if !reached[at] {
                continue;
            }
            match pattern[at] {
                '%' => next[at] = true,
                '_' => next[at + 1] = true,
                '\\' if at + 1 < pattern.len() => next[at + 2] |= pattern[at + 1] == character,
                literal => next[at + 1] |= literal == character,
            }
        }
        reached = next;
        close(&mut reached);
    }
    reached[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_partial_revokes_a_name_is_no_pattern() {
        let grants = Grants::parse(["GRANT ALL PRIVILEGES ON `my%`.* TO `u`@`%`"], false);
        assert!(!grants.on_schema("SELECT", "my_db"));
    }

    #[test]
    fn a_privilege_on_a_table_is_one_on_this_table_only() {
        let lines = [
            "GRANT SELECT, TRIGGER ON `s`.`a``b` TO `u`@`%`",
            "GRANT EXECUTE ON FUNCTION `s`.`f` TO `u`@`%`",
        ];
        let grants = Grants::parse(lines, true);
        assert!(grants.on_table("TRIGGER", &TableName::new("s", "a`b")));
        assert!(!grants.on_table("UPDATE", &TableName::new("s", "a`b")));
        assert!(!grants.on_table("TRIGGER", &TableName::new("s", "a")));
        assert!(!grants.on_schema("TRIGGER", "s"));
        let ansi = Grants::parse(["GRANT TRIGGER ON \"s\".\"a\"\"b\" TO \"u\"@\"%\""], true);
        assert!(ansi.on_table("TRIGGER", &TableName::new("s", "a\"b")));
        assert!(
            Grants::parse(["GRANT ALL PRIVILEGES ON `s`.* TO `u`@`%`"], true)
                .on_table("TRIGGER", &TableName::new("s", "x"))
        );
    }
}
