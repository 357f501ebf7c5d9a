//! Values in ACE's JSON.

use std::io::{self, Write};

use crate::model::{Cell, ColumnShape, ValueKind};

/// Writes a value: numbers as numbers, truth values as such, everything else as a text. What JSON has no number for,
/// `NaN` and the infinities, is a text too.
pub(super) fn write(cell: &Cell, column: &ColumnShape, output: &mut impl Write) -> io::Result<()> {
    let Some(text) = cell.as_str() else {
        return output.write_all(b"null");
    };
    match column.kind {
        ValueKind::Integer | ValueKind::Decimal | ValueKind::Float if is_number(text) => {
            output.write_all(text.as_bytes())
        }
        ValueKind::Boolean if matches!(text, "true" | "false") => output.write_all(text.as_bytes()),
        ValueKind::Text if is_timestamp(&column.type_text) => {
            serde_json::to_writer(output, &rfc3339(text)).map_err(io::Error::from)
        }
        _ => serde_json::to_writer(output, text).map_err(io::Error::from),
    }
}

/// PostgreSQL's time stamps; MySQL does not read the form that ACE writes.
fn is_timestamp(type_text: &str) -> bool {
    type_text.starts_with("timestamp") && type_text.ends_with("time zone")
}

/// `2026-07-01 10:00:00.5+00` as ACE writes it: `2026-07-01T10:00:00.5Z`. Years before 1 or after 9999 and the infinities
/// stay as they are; both forms are read by the server.
fn rfc3339(text: &str) -> String {
    let plain = text.strip_suffix("+00").unwrap_or(text);
    let shape: String = plain
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    let ordinary = shape.strip_prefix("0000-00-00 00:00:00").is_some_and(|rest| {
        rest.is_empty()
            || rest
                .strip_prefix('.')
                .is_some_and(|digits| digits.chars().all(|c| c == '0'))
    });
    if ordinary {
        format!("{}Z", plain.replacen(' ', "T", 1))
    } else {
        text.to_owned()
    }
}

/// Whether a text is a number in JSON's grammar.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1")]
    #[case("-0")]
    #[case("12345678901234567890123.4500")]
    #[case("1e+300")]
    #[case("2.5E-7")]
    fn numbers_are_numbers(#[case] text: &str) {
        assert!(is_number(text));
        serde_json::from_str::<serde_json::Value>(text).unwrap();
    }

    #[rstest]
    #[case("NaN")]
    #[case("Infinity")]
    #[case("01")]
    #[case(".5")]
    #[case("5.")]
    #[case("")]
    #[case("1e")]
    #[case("0x1")]
    #[case("1 ")]
    fn other_texts_are_not(#[case] text: &str) {
        assert!(!is_number(text));
    }

    #[rstest]
    #[case("2026-07-01 10:00:00", "2026-07-01T10:00:00Z")]
    #[case("2026-07-01 10:00:00.123456+00", "2026-07-01T10:00:00.123456Z")]
    #[case("infinity", "infinity")]
    #[case("0044-03-15 00:00:00 BC", "0044-03-15 00:00:00 BC")]
    #[case("20260-01-01 00:00:00", "20260-01-01 00:00:00")]
    fn time_stamps_are_written_as_ace_does(#[case] text: &str, #[case] written: &str) {
        assert_eq!(rfc3339(text), written);
    }
}
