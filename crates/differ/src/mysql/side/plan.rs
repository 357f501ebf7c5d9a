//! What is known about comparing one table once all nodes have agreed, and the statements that follow from it.

use std::fmt::Write as _;

use changeling_core::ident::{push_hex, quote, quote_text};

use crate::model::Key;
use crate::range::KeyRange;

use super::json;

/// How a column's text is got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextForm {
    /// By a cast.
    Cast,
    /// As a double, whose text tells all values apart.
    Double,
    /// The same, but -0 is 0.
    UnsignedZero,
    /// By a cast, without a decimal's zeros at the end.
    Trimmed,
    /// Its characters in UTF-8.
    Characters,
    /// The text of a document.
    Json,
    /// `0x` and hexadecimal digits.
    Bytes,
    /// As an unsigned number.
    Bits,
}

/// How a key's text is written to be compared with its column: never as a text where that would compare as doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyLiteral {
    Number,
    Characters,
    Bytes,
    Quoted,
}

/// Whether rows that are read are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowLock {
    None,
    Exclusive,
}

/// A compared column.
#[derive(Clone, Debug)]
pub(crate) struct PlannedColumn {
    pub(crate) name: String,
    pub(crate) form: TextForm,
}

/// A key column.
#[derive(Clone, Debug)]
pub(crate) struct PlannedKey {
    pub(crate) column: usize,
    pub(crate) literal: KeyLiteral,
    /// Whether it is walked by the bytes of its text, because the nodes sort it differently.
    pub(crate) by_bytes: bool,
}

/// Everything that the statements for one node's table depend on.
#[derive(Clone, Debug)]
pub(crate) struct TablePlan {
    pub(crate) source: String,
    pub(crate) columns: Vec<PlannedColumn>,
    pub(crate) key: Vec<PlannedKey>,
    /// The job's own prefix of every hashed text.
    pub(crate) salt: String,
    pub(crate) filter: Option<String>,
}

impl PlannedColumn {
    fn text(&self) -> String {
        self.text_of(&format!("t.{}", quote(&self.name)))
    }

    /// The text of the column's value, which `column` is in SQL.
    pub(crate) fn text_of(&self, column: &str) -> String {
        match self.form {
            TextForm::Cast => format!("CAST({column} AS CHAR)"),
            TextForm::Double => format!("CAST(CAST({column} AS DOUBLE) AS CHAR)"),
            // Adding zero turns -0 into 0 and leaves everything else as it is.
            TextForm::UnsignedZero => format!("CAST((CAST({column} AS DOUBLE) + 0E0) AS CHAR)"),
            TextForm::Trimmed => {
                let text = format!("CAST({column} AS CHAR)");
                format!(
                    "IF(LOCATE('.', {text}) > 0, TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {text})), {text})"
                )
            }
            TextForm::Characters | TextForm::Json => format!("CONVERT({column} USING utf8mb4)"),
            TextForm::Bytes => format!("CONCAT('0x', LOWER(HEX({column})))"),
            TextForm::Bits => format!("CAST(CAST({column} AS UNSIGNED) AS CHAR)"),
        }
    }

    /// A text as it is written to be stored in this column: the inverse of [`PlannedColumn::text_of`] where the column is of
    /// the type that the text was read from. `None` for a text that is no value of this column's form.
    ///
    /// Numbers stand as numbers or, with an exponent, as texts, which the server reads into the nearest double; it wrote
    /// the shortest text that is nearest to it. A BIT would take the bytes of a text, so it has to be a number.
    pub(crate) fn literal(&self, text: &str) -> Option<String> {
        match self.form {
            TextForm::Bits => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| text.to_owned())
            }
            TextForm::Bytes => {
                let digits = text.strip_prefix("0x")?;
                let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                (hexadecimal && digits.len() % 2 == 0).then(|| format!("X'{digits}'"))
            }
            TextForm::Json => Some(json::literal(text)),
            TextForm::Cast | TextForm::Trimmed if is_number(text) => Some(text.to_owned()),
            TextForm::Cast
            | TextForm::Trimmed
            | TextForm::Double
            | TextForm::UnsignedZero
            | TextForm::Characters => Some(quote_text(text)),
        }
    }
}

impl TablePlan {
    fn key_text(&self, index: usize) -> String {
        self.columns[self.key[index].column].text()
    }

    fn key_texts(&self) -> String {
        let texts: Vec<String> = (0..self.key.len()).map(|index| self.key_text(index)).collect();
        texts.join(", ")
    }

    /// Sorts by the bytes of the text, as the client does.
    fn bytes(&self, index: usize) -> String {
        format!("CAST({} AS BINARY)", self.key_text(index))
    }

    fn ordered(&self, index: usize) -> String {
        if self.key[index].by_bytes {
            self.bytes(index)
        } else {
            format!("t.{}", quote(&self.columns[self.key[index].column].name))
        }
    }

    fn walk_order(&self) -> String {
        let parts: Vec<String> = (0..self.key.len()).map(|index| self.ordered(index)).collect();
        parts.join(", ")
    }

    fn byte_order(&self) -> String {
        let parts: Vec<String> = (0..self.key.len()).map(|index| self.bytes(index)).collect();
        parts.join(", ")
    }

    /// A key's text as it is compared when the table is walked.
    fn literal(&self, index: usize, text: &str) -> String {
        if self.key[index].by_bytes {
            hex(text.as_bytes())
        } else {
            self.value(index, text)
        }
    }

    /// A key's text as a value of its column.
    fn value(&self, index: usize, text: &str) -> String {
        match self.key[index].literal {
            // Digits, a sign and a point: what else stands there is no number, and must not become SQL.
            KeyLiteral::Number if is_number(text) => text.to_owned(),
            KeyLiteral::Bytes => hex_digits(text.strip_prefix("0x").unwrap_or_default()),
            _ => format!("_utf8mb4 {}", hex(text.as_bytes())),
        }
    }

    /// `(a, b) > (x, y)` in a form for which the index is used.
    fn compared(&self, key: &Key, strict: &str, last: &str) -> String {
        let mut alternatives = Vec::with_capacity(self.key.len());
        for depth in 0..self.key.len() {
            let mut parts: Vec<String> = (0..depth)
                .map(|index| format!("{} = {}", self.ordered(index), self.literal(index, &key.0[index])))
                .collect();
            let comparison = if depth + 1 == self.key.len() { last } else { strict };
            parts.push(format!(
                "{} {comparison} {}",
                self.ordered(depth),
                self.literal(depth, &key.0[depth])
            ));
            alternatives.push(format!("({})", parts.join(" AND ")));
        }
        let first = format!("{} {strict}= {}", self.ordered(0), self.literal(0, &key.0[0]));
        format!("({first} AND ({}))", alternatives.join(" OR "))
    }

    fn within(&self, range: &KeyRange) -> String {
        let mut predicates = Vec::new();
        if let Some(after) = &range.after {
            predicates.push(self.compared(after, ">", ">"));
        }
        if let Some(to) = &range.to {
            predicates.push(self.compared(to, "<", "<="));
        }
        if let Some(filter) = &self.filter {
            predicates.push(format!("(\n{filter}\n)"));
        }
        if predicates.is_empty() {
            return String::new();
        }
        format!(" WHERE {}", predicates.join(" AND "))
    }

    pub(crate) fn step(&self, range: &KeyRange, rows: u64) -> String {
        format!(
            "SELECT {} FROM {} AS t{} ORDER BY {} LIMIT 1 OFFSET {}",
            self.key_texts(),
            self.source,
            self.within(range),
            self.walk_order(),
            rows.saturating_sub(1)
        )
    }

    pub(crate) fn cuts(&self, range: &KeyRange, every: u64, limit: u64) -> String {
        let texts: Vec<String> = (0..self.key.len())
            .map(|index| format!("{} AS k{index}", self.key_text(index)))
            .collect();
        let names: Vec<String> = (0..self.key.len()).map(|index| format!("k{index}")).collect();
        format!(
            "SELECT {} FROM (SELECT {}, ROW_NUMBER() OVER (ORDER BY {}) AS n FROM {} AS t{}) AS q \
             WHERE n % {every} = 0 ORDER BY n LIMIT {limit}",
            names.join(", "),
            texts.join(", "),
            self.walk_order(),
            self.source,
            self.within(range)
        )
    }

    /// Rows, rows that could be hashed, exclusive or, sum. The inner limit stops a range that is too large.
    pub(crate) fn digest(&self, range: &KeyRange, cap: u64) -> String {
        format!(
            "SELECT COUNT(*), COUNT(h), COALESCE(BIT_XOR(h), 0), COALESCE(SUM(h), 0) \
             FROM (SELECT {} AS h FROM {} AS t{} LIMIT {cap}) AS q",
            self.row_hash(),
            self.source,
            self.within(range)
        )
    }

    pub(crate) fn key_digests(&self, range: &KeyRange) -> String {
        format!(
            "SELECT {}, {} FROM {} AS t{} ORDER BY {}",
            self.key_texts(),
            self.row_hash(),
            self.source,
            self.within(range),
            self.byte_order()
        )
    }

    /// Place, which columns are NULL, and the texts, of each of these rows that is there.
    ///
    /// Each key a look-up of its own: whether a look-up of many uses the index depends on the server's mood, and one that
    /// does not would lock rows that nobody asked for. Whether a column is NULL is asked of the column: a text that is too
    /// long is NULL as well.
    pub(crate) fn rows(&self, keys: &[Key], first: usize, lock: RowLock) -> String {
        let mut cells = String::new();
        let mut nulls = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let _ = write!(cells, ", {}", column.text());
            nulls.push(format!("t.{} IS NULL", quote(&column.name)));
        }
        let lock = match lock {
            RowLock::None => "",
            RowLock::Exclusive => " FOR UPDATE",
        };
        let selects: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(place, key)| {
                format!(
                    "(SELECT {}, CONCAT({}){cells} FROM {} AS t WHERE {}{lock})",
                    first + place,
                    nulls.join(", "),
                    self.source,
                    self.is_at("t.", key)
                )
            })
            .collect();
        selects.join(" UNION ALL ")
    }

    /// The predicate that finds a key's row by the index. `prefix` stands before the columns: `t.` or nothing.
    pub(crate) fn is_at(&self, prefix: &str, key: &Key) -> String {
        let equal: Vec<String> = (0..self.key.len())
            .map(|index| {
                let planned = &self.columns[self.key[index].column];
                let column = format!("{prefix}{}", quote(&planned.name));
                let equal = format!("{column} = {}", self.value(index, &key.0[index]));
                if !self.key[index].by_bytes {
                    return equal;
                }
                // What is one key here may be two on another node.
                let text = planned.text_of(&column);
                format!(
                    "{equal} AND CAST({text} AS BINARY) = {}",
                    hex(key.0[index].as_bytes())
                )
            })
            .collect();
        equal.join(" AND ")
    }

    /// The first 64 bits of a SHA-256 over the length-tagged texts. Whether a column is NULL is asked of the column: a
    /// text that is too long is NULL as well, and must make the hash NULL.
    fn row_hash(&self) -> String {
        let tagged: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let (name, text) = (quote(&column.name), column.text());
                format!("IF(t.{name} IS NULL, 'N', CONCAT(LENGTH({text}), ':', {text}))")
            })
            .collect();
        format!(
            "CAST(CONV(LEFT(SHA2(CONCAT('{}', {}), 256), 16), 16, 10) AS UNSIGNED)",
            self.salt,
            tagged.join(", ")
        )
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let points = digits.bytes().filter(|byte| *byte == b'.').count();
    let all = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    all && points <= 1 && digits.len() > points
}

/// Bytes that are hexadecimal digits already; anything else is no key of this column, and is looked up as nothing.
fn hex_digits(digits: &str) -> String {
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        format!("X'{digits}'")
    } else {
        "NULL".into()
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("X'");
    push_hex(&mut text, bytes);
    text.push('\'');
    text
}
