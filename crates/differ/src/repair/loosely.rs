//! Whether a row is still what a report of a semantic comparison says: such a report has normalised texts, and a repair
//! reads them as they are.

use crate::model::{ColumnShape, ValueKind};

/// Whether two texts of a column are the same but for the zeros at the end of decimals and the signs of zeros.
pub(super) fn same_loosely(one: &str, other: &str, column: &ColumnShape) -> bool {
    let texts = match column.kind {
        ValueKind::Json => Texts::Kept,
        ValueKind::Decimal | ValueKind::Float => Texts::None,
        ValueKind::Text if has_numbers(&column.type_text) => Texts::None,
        _ => return one == other,
    };
    normalised(one, texts) == normalised(other, texts)
}

/// Arrays, ranges, and what is made of points.
fn has_numbers(type_text: &str) -> bool {
    const SHAPES: [&str; 7] = ["point", "line", "lseg", "box", "path", "polygon", "circle"];
    type_text.ends_with("[]") || type_text.contains("range") || SHAPES.contains(&type_text)
}

/// Whether there are texts among the numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Texts {
    None,
    Kept,
}

fn normalised(text: &str, texts: Texts) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' if texts == Texts::Kept => string_length(rest),
            '-' | '0'..='9' => {
                let end = rest[1..].find(|c: char| !(c.is_ascii_digit() || c == '.'));
                let length = end.map_or(rest.len(), |end| end + 1);
                let exponent = rest[length..].starts_with(['e', 'E']) || out.ends_with(['e', 'E']);
                out.push_str(&number(&rest[..length], exponent));
                rest = &rest[length..];
                continue;
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

fn number(text: &str, exponent: bool) -> String {
    let short = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    match short {
        "-0" if !exponent => "0".into(),
        short => short.into(),
    }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        r#"{"a": [1.00, -0.50], "b": "1.0\" 2.00"}"#,
        r#"{"a": [1, -0.5], "b": "1.0\" 2.00"}"#
    )]
    #[case(r#"{"v": "1.00"}"#, r#"{"v": "1.00"}"#)]
    fn texts_of_a_document_stay(#[case] text: &str, #[case] same: &str) {
        assert_eq!(normalised(text, Texts::Kept), same);
    }

    #[rstest]
    #[case("{1.00,-2.50,10,100.0}", "{1,-2.5,10,100}")]
    #[case("[1.0,2.010)", "[1,2.01)")]
    #[case("(-0,1e-07)", "(0,1e-07)")]
    #[case("{-0.0,-0.05,NULL}", "{0,-0.05,NULL}")]
    #[case("1000", "1000")]
    fn zeros_that_do_not_count_go(#[case] text: &str, #[case] same: &str) {
        assert_eq!(normalised(text, Texts::None), same);
    }
}
