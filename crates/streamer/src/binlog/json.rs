//! MySQL's binary `JSON` as text, and the changes within a document that partial updates carry.
//!
//! The text is what the server itself would print, so that it parses to the same document; only what JSON
//! text cannot tell apart (a `DECIMAL` from a `DOUBLE`, a `DATE` from a string) is lost, as it is for every
//! client that selects the column.

use std::fmt::Write;

use changeling_core::value::Cell;

use super::bytes::{Bytes, Truncated};
use super::{number, temporal};

/// The servers allow a depth of 100.
const MAX_DEPTH: usize = 100;

type Read<T> = Result<T, &'static str>;

const SHORT: &str = "a JSON document is shorter than its content says";

impl From<Truncated> for &'static str {
    fn from(_: Truncated) -> Self {
        SHORT
    }
}

/// The document as text.
pub(crate) fn text(document: &[u8]) -> Read<String> {
    let mut text = String::new();
    // An empty value stands for a document that was never written (NULL made NOT NULL, for example).
    let Some((&kind, content)) = document.split_first() else {
        return Ok("null".into());
    };
    // Elements may point anywhere in their container, also many times to the same place: bytes that were
    // forged could make the text exponentially long.
    let mut budget = 64 + document.len().saturating_mul(16);
    value(&mut text, kind, content, 0, &mut budget)?;
    Ok(text)
}

fn value(text: &mut String, kind: u8, content: &[u8], depth: usize, budget: &mut usize) -> Read<()> {
    if depth > MAX_DEPTH {
        return Err("a JSON document is nested too deeply");
    }
    *budget = budget.checked_sub(1).ok_or("a JSON document refers to itself")?;
    let mut bytes = Bytes(content);
    match kind {
        0x00..=0x03 => container(text, kind & 2 == 0, kind & 1 == 1, content, depth, budget)?,
        0x04 => literal(text, bytes.u8()?)?,
        0x05 => push(text, i64::from(bytes.u16()? as i16)),
        0x06 => push(text, bytes.u16()?),
        0x07 => push(text, bytes.u32()? as i32),
        0x08 => push(text, bytes.u32()?),
        0x09 => push(text, bytes.u64()? as i64),
        0x0a => push(text, bytes.u64()?),
        0x0b => double(text, f64::from_bits(bytes.u64()?)),
        0x0c => {
            let length = variable_length(&mut bytes)?;
            let string = bytes.take(length)?;
            spend(budget, string.len())?;
            quoted(text, string);
        }
        0x0f => {
            let field = bytes.u8()?;
            let length = variable_length(&mut bytes)?;
            let raw = bytes.take(length)?;
            spend(budget, raw.len())?;
            opaque(text, field, raw)?;
        }
        _ => return Err("a JSON document holds a value of unknown type"),
    }
    Ok(())
}

fn spend(budget: &mut usize, amount: usize) -> Read<()> {
    *budget = budget
        .checked_sub(amount)
        .ok_or("a JSON document refers to itself")?;
    Ok(())
}

fn push(text: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{value}");
}

fn literal(text: &mut String, code: u8) -> Read<()> {
    text.push_str(match code {
        0 => "null",
        1 => "true",
        2 => "false",
        _ => return Err("a JSON document holds an unknown literal"),
    });
    Ok(())
}

/// An object or array: count and size, then entries of keys and values, then what they point to.
fn container(
    text: &mut String,
    object: bool,
    large: bool,
    content: &[u8],
    depth: usize,
    budget: &mut usize,
) -> Read<()> {
    let width = if large { 4 } else { 2 };
    let mut header = Bytes(content);
    let count = usize::try_from(header.uint(width)?).map_err(|_| SHORT)?;
    let size = usize::try_from(header.uint(width)?).map_err(|_| SHORT)?;
    let content = content.get(..size).ok_or(SHORT)?;
    let keys_at = 2 * width;
    let values_at = if object {
        keys_at + count.saturating_mul(width + 2)
    } else {
        keys_at
    };
    text.push(if object { '{' } else { '[' });
    for index in 0..count {
        if index > 0 {
            text.push_str(", ");
        }
        if object {
            let mut entry = Bytes(content.get(keys_at + index * (width + 2)..).ok_or(SHORT)?);
            let offset = usize::try_from(entry.uint(width)?).map_err(|_| SHORT)?;
            let length = usize::from(entry.u16()?);
            let mut key = Bytes(content.get(offset..).ok_or(SHORT)?);
            spend(budget, length)?;
            quoted(text, key.take(length)?);
            text.push_str(": ");
        }
        let mut entry = Bytes(content.get(values_at + index * (width + 1)..).ok_or(SHORT)?);
        let kind = entry.u8()?;
        let inlined = matches!(kind, 0x04..=0x06) || (large && matches!(kind, 0x07 | 0x08));
        let inner = if inlined {
            entry.take(width)?
        } else {
            let offset = usize::try_from(entry.uint(width)?).map_err(|_| SHORT)?;
            content.get(offset..).ok_or(SHORT)?
        };
        value(text, kind, inner, depth + 1, budget)?;
    }
    text.push(if object { '}' } else { ']' });
    Ok(())
}

/// Seven bits a byte, the highest bit says that more follow.
fn variable_length(bytes: &mut Bytes<'_>) -> Read<usize> {
    let mut length = 0_usize;
    for shift in (0..35).step_by(7) {
        let byte = bytes.u8()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err("a JSON document holds a length of more than 32 bits")
}

/// Shortest digits that read back to the same number, and a point or exponent so that it stays a `DOUBLE`;
/// plain or with an exponent by the server's rule.
fn double(text: &mut String, value: f64) {
    /// Digits that a `DOUBLE` surely holds.
    const PLAIN: i32 = 15;
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let has_fraction = i32::try_from(digits).is_ok_and(|digits| digits > point);
    if point < 1 - PLAIN || point > PLAIN && !has_fraction {
        text.push_str(&scientific);
        return;
    }
    let start = text.len();
    push(text, value);
    if !text[start..].contains('.') {
        text.push_str(".0");
    }
}

fn quoted(text: &mut String, string: &[u8]) {
    text.push('"');
    for character in String::from_utf8_lossy(string).chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            control if control < ' ' => push(text, format_args!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// A value that JSON itself does not have, with the code of its SQL type.
fn opaque(text: &mut String, field: u8, raw: &[u8]) -> Read<()> {
    const TIMESTAMP: u8 = 7;
    const DATE: u8 = 10;
    const TIME: u8 = 11;
    const DATETIME: u8 = 12;
    const DECIMAL: u8 = 246;
    let mut bytes = Bytes(raw);
    match field {
        DECIMAL => {
            let precision = bytes.u8()?;
            let scale = bytes.u8()?;
            if precision > 65 || scale > 30 || scale > precision {
                return Err("a JSON document holds an impossible DECIMAL");
            }
            text.push_str(&number::decimal(&mut bytes, precision, scale)?);
        }
        DATE | TIME | DATETIME | TIMESTAMP => {
            let cell = temporal::unpacked(bytes.u64()? as i64, field == TIME);
            text.push('"');
            temporal_text(text, &cell, field == DATE);
            text.push('"');
        }
        other => {
            push(text, format_args!("\"base64:type{other}:"));
            base64(text, raw);
            text.push('"');
        }
    }
    Ok(())
}

fn temporal_text(text: &mut String, cell: &Cell, date_only: bool) {
    match *cell {
        Cell::DateTime { year, month, day, .. } if date_only => {
            push(text, format_args!("{year:04}-{month:02}-{day:02}"));
        }
        Cell::DateTime {
            year,
            month,
            day,
            hours,
            minutes,
            seconds,
            micros,
        } => push(
            text,
            format_args!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}"),
        ),
        Cell::Time {
            negative,
            hours,
            minutes,
            seconds,
            micros,
        } => {
            let sign = if negative { "-" } else { "" };
            push(
                text,
                format_args!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"),
            );
        }
        _ => {}
    }
}

fn base64(text: &mut String, raw: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in raw.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for index in 0..4 {
            if index <= chunk.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * index) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
}

/// The changes within a document, as text for a person.
pub(crate) fn diff(raw: &[u8]) -> Read<String> {
    let mut bytes = Bytes(raw);
    let mut text = String::new();
    while !bytes.is_empty() {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let operation = bytes.u8()?;
        let length = bytes.length()?;
        let path = String::from_utf8_lossy(bytes.take(length)?).into_owned();
        let name = match operation {
            0 => "replace",
            1 => "insert",
            2 => {
                push(&mut text, format_args!("remove {path}"));
                continue;
            }
            _ => return Err("a partial JSON update holds an unknown operation"),
        };
        let length = bytes.length()?;
        push(
            &mut text,
            format_args!("{name} {path} = {}", self::text(bytes.take(length)?)?),
        );
    }
    Ok(text)
}
