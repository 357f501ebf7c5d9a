//! Keys as bytes that sort as the keys do: numbers by value, everything else by bytes.
//!
//! The order is the report's own and the same whichever server the rows came from; a database may sort its texts otherwise.

use crate::model::{Key, TableShape, ValueKind};

const NEGATIVE_INFINITY: u8 = 0;
const NEGATIVE: u8 = 1;
const ZERO: u8 = 2;
const POSITIVE: u8 = 3;
const INFINITY: u8 = 4;
const NOT_A_NUMBER: u8 = 5;
/// Ahead of a text in a column of numbers, which no server writes.
const NOT_EVEN_A_NUMBER: u8 = 6;

/// The bytes of a key.
pub(super) fn sort_bytes(key: &Key, shape: &TableShape) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.weight());
    for (part, column) in key.0.iter().zip(shape.key_columns()) {
        match column.kind {
            ValueKind::Integer | ValueKind::Decimal | ValueKind::Float => push_number(part, &mut bytes),
            ValueKind::Boolean | ValueKind::Json | ValueKind::Bytes | ValueKind::Text => {
                push_text(part, &mut bytes);
            }
        }
    }
    bytes
}

/// A terminated text: a shorter one comes before its continuation, and the next column does not matter before this one.
fn push_text(text: &str, bytes: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        bytes.push(byte);
        if byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend([0, 0]);
}

fn push_number(text: &str, bytes: &mut Vec<u8>) {
    match text {
        "NaN" => return bytes.push(NOT_A_NUMBER),
        "Infinity" => return bytes.push(INFINITY),
        "-Infinity" => return bytes.push(NEGATIVE_INFINITY),
        _ => {}
    }
    let Some(number) = Scientific::of(text) else {
        bytes.push(NOT_EVEN_A_NUMBER);
        return push_text(text, bytes);
    };
    if number.digits.is_empty() {
        return bytes.push(ZERO);
    }
    let start = bytes.len() + 1;
    bytes.push(if number.negative { NEGATIVE } else { POSITIVE });
    bytes.extend((i64::from(i32::MIN).abs() + number.exponent).to_be_bytes());
    bytes.extend(&number.digits);
    bytes.push(0);
    if number.negative {
        for byte in &mut bytes[start..] {
            *byte = !*byte;
        }
    }
}

/// 0.digits × 10^exponent, the digits without zeros at either end.
struct Scientific {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Scientific {
    fn of(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, i64::from(exponent.parse::<i32>().ok()?)),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let leading = all.iter().take_while(|digit| **digit == b'0').count();
        let trailing = all.iter().rev().take_while(|digit| **digit == b'0').count();
        let digits = all
            .get(leading..all.len() - trailing)
            .unwrap_or_default()
            .to_vec();
        let exponent = exponent + i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
        Some(Self {
            negative,
            digits,
            exponent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_number(text, &mut bytes);
        bytes
    }

    #[test]
    fn numbers_sort_by_value() {
        let ascending = [
            "-Infinity",
            "-1e+300",
            "-1000",
            "-999.5",
            "-999",
            "-1.5",
            "-0.25",
            "-1e-10",
            "0",
            "1e-10",
            "0.25",
            "1",
            "1.5",
            "2",
            "9",
            "10",
            "99",
            "100.0001",
            "9007199254740993",
            "1e+300",
            "Infinity",
            "NaN",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
        assert_eq!(number("1.50"), number("15e-1"));
        assert_eq!(number("-0.00"), number("0"));
    }

    #[test]
    fn texts_sort_by_bytes_and_end() {
        let text = |parts: &[&str]| {
            let mut bytes = Vec::new();
            for part in parts {
                push_text(part, &mut bytes);
            }
            bytes
        };
        assert!(text(&["a", "z"]) < text(&["ab", "a"]));
        assert!(text(&["a|b", "c"]) != text(&["a", "b|c"]));
        assert!(text(&["a\0", "b"]) > text(&["a", "z"]));
    }
}
