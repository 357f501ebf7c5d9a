//! Dates and times in all forms the servers have stored them in.

use changeling_core::value::Cell;

use super::bytes::{Bytes, Truncated};

/// How a point in time or a duration is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// MySQL 5.6 and later, MariaDB by default: big-endian, fraction behind.
    Timestamp2 {
        fsp: u8,
    },
    DateTime2 {
        fsp: u8,
    },
    Time2 {
        fsp: u8,
    },
    /// Before MySQL 5.6, and MariaDB with `mysql56_temporal_format=OFF`, without fraction.
    OldTimestamp,
    OldDateTime,
    OldTime,
    /// MariaDB with `mysql56_temporal_format=OFF`, with fraction; a table map does not say so.
    MariaTimestamp {
        fsp: u8,
    },
    MariaDateTime {
        fsp: u8,
    },
    MariaTime {
        fsp: u8,
    },
}

/// Bytes of a fraction of so many digits.
fn fraction_size(fsp: u8) -> usize {
    usize::from(fsp.div_ceil(2))
}

const MARIA_DATETIME_SIZE: [usize; 7] = [5, 6, 6, 7, 7, 7, 8];
const MARIA_TIME_SIZE: [usize; 7] = [3, 4, 4, 5, 5, 5, 6];

fn by_fsp(sizes: &[usize; 7], fsp: u8) -> usize {
    sizes[usize::from(fsp.min(6))]
}

impl Layout {
    #[inline]
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Timestamp2 { fsp } | Self::MariaTimestamp { fsp } => 4 + fraction_size(fsp),
            Self::DateTime2 { fsp } => 5 + fraction_size(fsp),
            Self::Time2 { fsp } => 3 + fraction_size(fsp),
            Self::OldTimestamp => 4,
            Self::OldDateTime => 8,
            Self::OldTime => 3,
            Self::MariaDateTime { fsp } => by_fsp(&MARIA_DATETIME_SIZE, fsp),
            Self::MariaTime { fsp } => by_fsp(&MARIA_TIME_SIZE, fsp),
        }
    }

    pub(crate) fn read(self, bytes: &mut Bytes<'_>) -> Result<Cell, Truncated> {
        match self {
            Self::Timestamp2 { fsp } => {
                let seconds = bytes.uint_be(4)?;
                Ok(Cell::Timestamp {
                    seconds: signed(seconds),
                    micros: fraction(bytes, fsp)?,
                })
            }
            Self::OldTimestamp => Ok(Cell::Timestamp {
                seconds: i64::from(bytes.u32()?),
                micros: 0,
            }),
            Self::MariaTimestamp { fsp } => {
                let seconds = bytes.uint_be(4)?;
                let part = bytes.uint_be(fraction_size(fsp))?;
                Ok(Cell::Timestamp {
                    seconds: signed(seconds),
                    micros: narrow(part * scale(fsp)),
                })
            }
            Self::DateTime2 { fsp } => {
                let packed = bytes.uint_be(5)?.wrapping_sub(0x80_0000_0000);
                let day = packed >> 17 & 31;
                let months = packed >> 22 & 0x1_ffff;
                let micros = fraction(bytes, fsp)?;
                Ok(datetime(
                    months,
                    day,
                    packed >> 12 & 31,
                    packed >> 6 & 63,
                    packed & 63,
                    micros,
                ))
            }
            Self::OldDateTime => Ok(old_datetime(bytes.u64()?)),
            Self::MariaDateTime { fsp } => {
                let packed = bytes.uint_be(self.size())?.saturating_mul(scale(fsp));
                let (rest, micros) = (packed / 1_000_000, packed % 1_000_000);
                let (rest, second) = (rest / 60, rest % 60);
                let (rest, minute) = (rest / 60, rest % 60);
                let (rest, hour) = (rest / 24, rest % 24);
                Ok(datetime(
                    rest / 32,
                    rest % 32,
                    hour,
                    minute,
                    second,
                    narrow(micros),
                ))
            }
            Self::Time2 { fsp } => time2(bytes, fsp),
            Self::OldTime => {
                // Three bytes, signed, the decimal digits hhmmss.
                let stored = bytes.uint(3)?;
                let value = (stored << 40) as i64 >> 40;
                let digits = value.unsigned_abs();
                Ok(time(
                    value < 0,
                    digits / 10_000,
                    digits / 100 % 100,
                    digits % 100,
                    0,
                ))
            }
            Self::MariaTime { fsp } => {
                const LIMIT: u64 = 839 * 3600;
                let zero = (LIMIT * 1_000_000).div_ceil(scale(fsp));
                let stored = bytes.uint_be(self.size())?;
                let packed = stored.abs_diff(zero).saturating_mul(scale(fsp));
                let (rest, micros) = (packed / 1_000_000, packed % 1_000_000);
                Ok(time(
                    stored < zero,
                    rest / 3600,
                    rest / 60 % 60,
                    rest % 60,
                    narrow(micros),
                ))
            }
        }
    }
}

/// Microseconds of one unit of a fraction of so many digits.
fn scale(fsp: u8) -> u64 {
    10_u64.pow(6 - u32::from(fsp.min(6)))
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(0)
}

fn narrow(micros: u64) -> u32 {
    u32::try_from(micros).unwrap_or(0)
}

/// The fraction behind a `…2` value: odd numbers of digits are stored as the next even number.
fn fraction(bytes: &mut Bytes<'_>, fsp: u8) -> Result<u32, Truncated> {
    let width = fraction_size(fsp);
    let unit = [0, 10_000, 100, 1][width.min(3)];
    Ok(narrow(bytes.uint_be(width)? * unit))
}

fn small(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn datetime(months: u64, day: u64, hour: u64, minute: u64, second: u64, micros: u32) -> Cell {
    Cell::DateTime {
        year: u16::try_from(months / 13).unwrap_or(u16::MAX),
        month: small(months % 13),
        day: small(day),
        hours: small(hour),
        minutes: small(minute),
        seconds: small(second),
        micros,
    }
}

/// The decimal digits `YYYYMMDDhhmmss`.
fn old_datetime(digits: u64) -> Cell {
    let (date, clock) = (digits / 1_000_000, digits % 1_000_000);
    let months = date / 10_000 * 13 + date / 100 % 100 % 13;
    datetime(
        months,
        date % 100,
        clock / 10_000,
        clock / 100 % 100,
        clock % 100,
        0,
    )
}

/// Three bytes: five bits of day, four of month, the year.
pub(crate) fn date(bytes: &mut Bytes<'_>) -> Result<Cell, Truncated> {
    let packed = bytes.uint(3)?;
    Ok(Cell::Date {
        year: u16::try_from(packed >> 9).unwrap_or(u16::MAX),
        month: small(packed >> 5 & 15),
        day: small(packed & 31),
    })
}

fn time(negative: bool, hours: u64, minutes: u64, seconds: u64, micros: u32) -> Cell {
    Cell::Time {
        negative,
        hours: u16::try_from(hours).unwrap_or(u16::MAX),
        minutes: small(minutes),
        seconds: small(seconds),
        micros,
    }
}

/// The whole stored number, fraction included, is offset by its middle; below zero it is negated as one.
fn time2(bytes: &mut Bytes<'_>, fsp: u8) -> Result<Cell, Truncated> {
    let width = fraction_size(fsp);
    let stored = bytes.uint_be(3 + width)?;
    let middle = 0x80_0000_u64 << (8 * width);
    let distance = stored.abs_diff(middle);
    let hms = distance >> (8 * width);
    let unit = [0, 10_000, 100, 1][width.min(3)];
    let micros = (distance & ((1 << (8 * width)) - 1)) * unit;
    Ok(time(
        stored < middle,
        hms >> 12 & 0x3ff,
        hms >> 6 & 63,
        hms & 63,
        narrow(micros),
    ))
}

/// A value packed in 8 bytes, as `JSON` documents hold dates and times: signed, 24 bits of microseconds.
pub(crate) fn unpacked(packed: i64, is_time: bool) -> Cell {
    let distance = packed.unsigned_abs();
    let (whole, micros) = (distance >> 24, narrow(distance & 0xff_ffff));
    if is_time {
        return time(
            packed < 0,
            whole >> 12 & 0x3ff,
            whole >> 6 & 63,
            whole & 63,
            micros,
        );
    }
    datetime(
        whole >> 22,
        whole >> 17 & 31,
        whole >> 12 & 31,
        whole >> 6 & 63,
        whole & 63,
        micros,
    )
}
