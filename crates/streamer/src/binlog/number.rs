//! `DECIMAL` in its binary form.

use super::bytes::{Bytes, Truncated};

/// Bytes that hold so many decimal digits, up to nine.
const BYTES_OF_DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Bytes of a `DECIMAL(precision, scale)`.
#[inline]
pub(crate) fn decimal_size(precision: u8, scale: u8) -> usize {
    let whole = usize::from(precision.saturating_sub(scale));
    let fraction = usize::from(scale);
    whole / 9 * 4 + BYTES_OF_DIGITS[whole % 9] + fraction / 9 * 4 + BYTES_OF_DIGITS[fraction % 9]
}

/// A `DECIMAL` as the server writes it: no zeros before, all digits of the scale.
pub(crate) fn decimal(bytes: &mut Bytes<'_>, precision: u8, scale: u8) -> Result<String, Truncated> {
    let mut stored = [0_u8; 40];
    let raw = bytes.take(decimal_size(precision, scale))?;
    let digits = stored.get_mut(..raw.len()).ok_or(Truncated)?;
    digits.copy_from_slice(raw);
    // The first bit is turned so that numbers sort as bytes; all bits are, below zero.
    let first = digits.first_mut().ok_or(Truncated)?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        digits.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut cursor = Bytes(digits);
    let whole = usize::from(precision.saturating_sub(scale));
    let fraction = usize::from(scale);
    let mut text = String::with_capacity(usize::from(precision) + 3);
    push_group(&mut text, &mut cursor, whole % 9)?;
    for _ in 0..whole / 9 {
        push_group(&mut text, &mut cursor, 9)?;
    }
    let significant = text.trim_start_matches('0');
    let mut number = String::with_capacity(text.len() + fraction + 2);
    if negative {
        number.push('-');
    }
    number.push_str(if significant.is_empty() { "0" } else { significant });
    if fraction > 0 {
        number.push('.');
        for _ in 0..fraction / 9 {
            push_group(&mut number, &mut cursor, 9)?;
        }
        push_group(&mut number, &mut cursor, fraction % 9)?;
    }
    Ok(number)
}

fn push_group(text: &mut String, bytes: &mut Bytes<'_>, digits: usize) -> Result<(), Truncated> {
    if digits > 0 {
        let group = bytes.uint_be(BYTES_OF_DIGITS[digits])?;
        text.push_str(&format!("{group:0digits$}"));
    }
    Ok(())
}
