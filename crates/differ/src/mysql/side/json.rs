//! JSON documents of MySQL as they have to be written so that they read the same.
//!
//! A document's text is not the whole document: MySQL keeps integers, doubles and decimals apart, writes a decimal with all
//! of its digits, and reads a number with a point as a double. So `{"a": 1.10}` that came from a decimal would become
//! `{"a": 1.1}`. Numbers that a double or an integer does not give back are therefore written as decimals, in an expression
//! that makes the document.

use std::collections::BTreeMap;

use changeling_core::ident::quote_text;
use serde_json::value::RawValue;

/// Digits of MySQL's widest decimal, and how many of them may stand behind the point.
const DIGITS: (usize, usize) = (65, 30);

/// A document as it is written.
pub(super) fn literal(text: &str) -> String {
    if !has_decimal(text) {
        return quote_text(text);
    }
    // A text that is no document is left for the server to refuse.
    document(text).unwrap_or_else(|| quote_text(text))
}

fn document(text: &str) -> Option<String> {
    let text = text.trim();
    if !has_decimal(text) {
        return Some(format!("CAST({} AS JSON)", quote_text(text)));
    }
    match text.as_bytes().first()? {
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let field = |(name, value): (&String, &&RawValue)| {
                Some(format!("{}, {}", quote_text(name), document(value.get())?))
            };
            let fields: Option<Vec<String>> = fields.iter().map(field).collect();
            Some(format!("JSON_OBJECT({})", fields?.join(", ")))
        }
        b'[' => {
            let values: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let values: Option<Vec<String>> = values.iter().map(|value| document(value.get())).collect();
            Some(format!("JSON_ARRAY({})", values?.join(", ")))
        }
        _ => decimal(text),
    }
}

fn decimal(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let precision = whole.len() + fraction.len();
    let fits = precision <= DIGITS.0 && fraction.len() <= DIGITS.1;
    (plain(whole) && plain(fraction) && fits)
        .then(|| format!("CAST({text} AS DECIMAL({precision},{}))", fraction.len()))
}

/// Whether there is a number in it that comes back otherwise if it is read as an integer or a double.
fn has_decimal(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[start..];
        let length = if rest.starts_with('"') {
            string_length(rest)
        } else {
            let number = |c: char| matches!(c, '-' | '+' | '.' | 'e' | 'E') || c.is_ascii_digit();
            let length = rest.find(|c| !number(c)).unwrap_or(rest.len());
            if is_decimal(&rest[..length]) {
                return true;
            }
            length
        };
        rest = &rest[length..];
    }
    false
}

/// Bytes of the string with which the text begins, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_decimal(number: &str) -> bool {
    if number.contains(['e', 'E']) {
        return false;
    }
    if !number.contains('.') {
        return number.parse::<i64>().is_err() && number.parse::<u64>().is_err();
    }
    // Rust writes the shortest text that gives the same double, as MySQL does.
    number
        .parse::<f64>()
        .is_ok_and(|double| format!("{double:?}") != number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_double_gives_back_is_a_text() {
        for text in [
            "{\"a\": 1.1, \"b\": [1, -2, 1.0, 1e100, \"1.10\"]}",
            "1.5",
            "18446744073709551615",
            "\"1.10\\\"\"",
            "true",
        ] {
            assert_eq!(literal(text), quote_text(text));
        }
    }

    #[test]
    fn other_numbers_are_decimals() {
        assert_eq!(literal("1.10"), "CAST(1.10 AS DECIMAL(3,2))");
        assert_eq!(
            literal("-123456789012345678901"),
            "CAST(-123456789012345678901 AS DECIMAL(21,0))"
        );
        assert_eq!(
            literal("{\"a\": [1.10, true], \"b'\": {\"c\": 1.1}}"),
            "JSON_OBJECT('a', JSON_ARRAY(CAST(1.10 AS DECIMAL(3,2)), CAST('true' AS JSON)), _utf8mb4 X'6227', \
             CAST('{\"c\": 1.1}' AS JSON))"
        );
    }
}
