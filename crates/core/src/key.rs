//! Keys as SQL text: literals, look-ups of many keys, and ranges of a key's order.
//!
//! A [`Key`] never passes through a conversion of ours: text is written with its own character set's
//! introducer and in hexadecimal, so that the server compares exactly the bytes that it logged.
//! Sessions that run these texts have `time_zone = '+00:00'` wherever the key holds a `TIMESTAMP`.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::ident::{push_hex, quote};
use crate::schema::ColumnKind;
use crate::value::{Cell, RowImage};

/// The values of a key's columns, in index order.
pub type Key = RowImage;

/// How a key column of the copy's target is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetMatch {
    /// Equality under the target's collation is equality under the source's.
    Collation,
    /// The collation changes: rows must also agree byte by byte with the key.
    Bytes,
}

/// One column of a key that exists on two tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Name on the source.
    pub source: String,
    /// Name on the target.
    pub target: String,
    /// What the source's column stores.
    pub kind: ColumnKind,
    /// What the target's column stores.
    pub target_kind: ColumnKind,
    /// Whether the source's index stores it from high to low.
    pub descending: bool,
    /// How it is looked up on the target.
    pub target_match: TargetMatch,
}

/// The columns of a key, in index order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySpec {
    /// At least one.
    pub columns: Vec<KeyColumn>,
}

/// The table on which a predicate is to be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The original table.
    Source,
    /// The ghost table.
    Target,
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// No end.
    Open,
    /// The key itself is inside.
    Included(Key),
    /// The key itself is outside.
    Excluded(Key),
}

/// A range in the order of the source's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub from: Bound,
    /// Where it ends.
    pub to: Bound,
}

/// A value that cannot be a key's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` of the key holds {value}, which cannot be looked up")]
pub struct NotAKey {
    /// The column.
    pub column: String,
    /// What it holds.
    pub value: String,
}

impl KeySpec {
    /// Whether two keys that differ in bytes are different rows, whatever the collation: true where at
    /// least one column is compared bytewise. Only those columns may decide on a lane.
    #[must_use]
    pub fn bytewise_columns(&self) -> Vec<usize> {
        let bytewise = |column: &KeyColumn| {
            !matches!(
                column.kind,
                ColumnKind::Text { .. } | ColumnKind::Double | ColumnKind::Float
            )
        };
        (0..self.columns.len())
            .filter(|&index| bytewise(&self.columns[index]))
            .collect()
    }

    /// Whether the order of the key is known to the client: one integer column, ascending.
    #[must_use]
    pub fn is_single_integer(&self) -> bool {
        matches!(
            &self.columns[..],
            [KeyColumn {
                kind: ColumnKind::Integer { .. },
                descending: false,
                ..
            }]
        )
    }

    /// Whether both sides order their keys alike, so that a range means the same rows on both.
    #[must_use]
    pub fn same_order(&self) -> bool {
        self.columns
            .iter()
            .all(|column| column.kind == column.target_kind)
    }

    /// The column list, quoted, comma-separated.
    #[must_use]
    pub fn column_list(&self, side: Side) -> String {
        join(self.columns.iter().map(|column| quote(column.name(side))), ", ")
    }

    /// Expressions that read the key so that [`KeySpec::parse`] understands it.
    #[must_use]
    pub fn select_list(&self, side: Side) -> String {
        join(
            self.columns.iter().map(|column| column.select_expression(side)),
            ", ",
        )
    }

    /// The `ORDER BY` list that walks the source's index forward.
    #[must_use]
    pub fn order(&self, direction: Direction) -> String {
        let item = |column: &KeyColumn| {
            let down = column.descending != (direction == Direction::Backward);
            format!("{}{}", quote(&column.source), if down { " DESC" } else { "" })
        };
        join(self.columns.iter().map(item), ", ")
    }

    /// A predicate that is true for exactly these keys; `FALSE` for none.
    ///
    /// Every form is one that both servers turn into point look-ups: `IN` for one column, else a chain
    /// of `AND`s in an `OR` (MariaDB does not use an index for row constructors).
    ///
    /// # Errors
    /// When a value is `NULL`, absent, or of a type that no key has.
    pub fn in_keys<'a>(
        &self,
        side: Side,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> Result<String, NotAKey> {
        let mut predicate = String::new();
        let single = self.columns.len() == 1 && self.columns[0].plain(side);
        for key in keys {
            if single {
                if predicate.is_empty() {
                    write_str(
                        &mut predicate,
                        format_args!("{} IN (", quote(self.columns[0].name(side))),
                    );
                } else {
                    predicate.push(',');
                }
                self.columns[0].write_literal(&mut predicate, &key.cells()[0])?;
            } else {
                predicate.push_str(if predicate.is_empty() { "(" } else { " OR (" });
                self.write_equal(&mut predicate, side, key)?;
                predicate.push(')');
            }
        }
        match (predicate.is_empty(), single) {
            (true, _) => Ok("FALSE".to_owned()),
            (false, true) => Ok(predicate + ")"),
            (false, false) => Ok(format!("({predicate})")),
        }
    }

    fn write_equal(&self, predicate: &mut String, side: Side, key: &Key) -> Result<(), NotAKey> {
        for (index, (column, cell)) in self.columns.iter().zip(key.cells()).enumerate() {
            if index > 0 {
                predicate.push_str(" AND ");
            }
            let name = quote(column.name(side));
            write_str(predicate, format_args!("{name} = "));
            column.write_literal(predicate, cell)?;
            if let (false, ColumnKind::Text { charset, .. }) = (column.plain(side), &column.target_kind) {
                write_str(
                    predicate,
                    format_args!(" AND CAST({name} AS BINARY) = CAST(CONVERT("),
                );
                column.write_literal(predicate, cell)?;
                write_str(predicate, format_args!(" USING {charset}) AS BINARY)"));
            }
        }
        Ok(())
    }

    /// A predicate that is true inside the range; `TRUE` for a range without ends.
    ///
    /// On the target it means the same range only if [`KeySpec::same_order`].
    ///
    /// # Errors
    /// As [`KeySpec::in_keys`].
    pub fn in_range(&self, side: Side, range: &KeyRange) -> Result<String, NotAKey> {
        let mut terms = Vec::with_capacity(2);
        match &range.from {
            Bound::Open => {}
            Bound::Included(key) => {
                terms.push(self.beyond(side, key, Direction::Forward, Inclusion::With)?)
            }
            Bound::Excluded(key) => {
                terms.push(self.beyond(side, key, Direction::Forward, Inclusion::Without)?)
            }
        }
        match &range.to {
            Bound::Open => {}
            Bound::Included(key) => {
                terms.push(self.beyond(side, key, Direction::Backward, Inclusion::With)?)
            }
            Bound::Excluded(key) => {
                terms.push(self.beyond(side, key, Direction::Backward, Inclusion::Without)?)
            }
        }
        Ok(if terms.is_empty() {
            "TRUE".to_owned()
        } else {
            join(terms.into_iter(), " AND ")
        })
    }

    /// `(a > x) OR (a = x AND b > y)`, with `a >= x` before it so that the first column alone already
    /// bounds an index scan.
    fn beyond(
        &self,
        side: Side,
        key: &Key,
        direction: Direction,
        inclusion: Inclusion,
    ) -> Result<String, NotAKey> {
        let last = self.columns.len() - 1;
        let mut text = String::new();
        if last > 0 {
            self.write_compare(&mut text, side, 0, key, direction, Inclusion::With)?;
            text.push_str(" AND ");
        }
        text.push('(');
        for depth in 0..=last {
            if depth > 0 {
                text.push_str(" OR ");
            }
            text.push('(');
            for equal in 0..depth {
                write_str(
                    &mut text,
                    format_args!("{} = ", quote(self.columns[equal].name(side))),
                );
                self.columns[equal].write_literal(&mut text, &key.cells()[equal])?;
                text.push_str(" AND ");
            }
            let inclusion = if depth == last {
                inclusion
            } else {
                Inclusion::Without
            };
            self.write_compare(&mut text, side, depth, key, direction, inclusion)?;
            text.push(')');
        }
        text.push(')');
        Ok(text)
    }

    fn write_compare(
        &self,
        text: &mut String,
        side: Side,
        index: usize,
        key: &Key,
        direction: Direction,
        inclusion: Inclusion,
    ) -> Result<(), NotAKey> {
        let column = &self.columns[index];
        let above = (direction == Direction::Forward) != column.descending;
        let operator = match (above, inclusion) {
            (true, Inclusion::With) => ">=",
            (true, Inclusion::Without) => ">",
            (false, Inclusion::With) => "<=",
            (false, Inclusion::Without) => "<",
        };
        write_str(text, format_args!("{} {operator} ", quote(column.name(side))));
        column.write_literal(text, &key.cells()[index])
    }

    /// Reads a key from a row of [`KeySpec::select_list`], as the text protocol sends it.
    ///
    /// # Errors
    /// When a column is `NULL` or not what its type writes.
    pub fn parse(&self, texts: &[Option<Vec<u8>>]) -> Result<Key, NotAKey> {
        let cell = |(column, text): (&KeyColumn, &Option<Vec<u8>>)| {
            let text = text.as_deref().ok_or_else(|| column.refuse(&Cell::Null))?;
            column.parse(text).ok_or_else(|| NotAKey {
                column: column.source.clone(),
                value: format!("{:?}", String::from_utf8_lossy(text)),
            })
        };
        Ok(Key::new(
            self.columns
                .iter()
                .zip(texts)
                .map(cell)
                .collect::<Result<_, _>>()?,
        ))
    }

    /// The key for a person: `id=7, name='x'`.
    #[must_use]
    pub fn display(&self, key: &Key) -> String {
        let item = |(column, cell): (&KeyColumn, &Cell)| {
            let mut text = format!("{}=", column.source);
            if column.write_readable(&mut text, cell).is_err() {
                write_str(&mut text, format_args!("{cell:?}"));
            }
            text
        };
        join(self.columns.iter().zip(key.cells()).map(item), ", ")
    }
}

/// Which way a key's order is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// As the index stores it.
    Forward,
    /// The other way.
    Backward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inclusion {
    With,
    Without,
}

impl KeyColumn {
    fn name(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// Whether plain equality finds exactly the key's row on this side.
    fn plain(&self, side: Side) -> bool {
        side == Side::Source || self.target_match == TargetMatch::Collation
    }

    fn select_expression(&self, side: Side) -> String {
        let name = quote(self.name(side));
        match &self.kind {
            ColumnKind::Text { .. } => format!("CAST({name} AS BINARY)"),
            // Not `+ 0`, which MySQL computes as a double: members beyond the 53rd would be lost.
            ColumnKind::Enum { .. } | ColumnKind::Set { .. } | ColumnKind::Bit { .. } | ColumnKind::Year => {
                format!("CAST({name} AS UNSIGNED)")
            }
            _ => name,
        }
    }

    fn refuse(&self, cell: &Cell) -> NotAKey {
        NotAKey {
            column: self.source.clone(),
            value: format!("{cell:?}"),
        }
    }

    /// Writes a value as a literal that the server compares with the column by its index.
    fn write_literal(&self, text: &mut String, cell: &Cell) -> Result<(), NotAKey> {
        match (cell, &self.kind) {
            (Cell::Text(bytes), ColumnKind::Text { charset, .. }) => {
                write_str(text, format_args!("_{charset} X'"));
                push_hex(text, bytes);
                text.push('\'');
            }
            (Cell::Binary(bytes), ColumnKind::Binary { .. } | ColumnKind::VarBinary) => {
                text.push_str("_binary X'");
                push_hex(text, bytes);
                text.push('\'');
            }
            (Cell::Text(_) | Cell::Binary(_), ColumnKind::Inet4 | ColumnKind::Inet6 | ColumnKind::Uuid) => {
                self.write_readable(text, cell)?;
            }
            (Cell::Text(_) | Cell::Binary(_), _) => return Err(self.refuse(cell)),
            _ => self.write_readable(text, cell)?,
        }
        Ok(())
    }

    fn write_readable(&self, text: &mut String, cell: &Cell) -> Result<(), NotAKey> {
        match cell {
            Cell::Int(value) => write_str(text, format_args!("{value}")),
            Cell::UInt(value) | Cell::Set(value) | Cell::Bit(value) => {
                write_str(text, format_args!("{value}"))
            }
            Cell::Enum(value) | Cell::Year(value) => write_str(text, format_args!("{value}")),
            Cell::Double(bits) => write_str(text, format_args!("{:e}", f64::from_bits(*bits))),
            Cell::Decimal(digits) => text.push_str(digits),
            Cell::Date { year, month, day } => {
                write_str(text, format_args!("'{year:04}-{month:02}-{day:02}'"));
            }
            Cell::Time {
                negative,
                hours,
                minutes,
                seconds,
                micros,
            } => {
                let sign = if *negative { "-" } else { "" };
                write_str(
                    text,
                    format_args!("'{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}'"),
                );
            }
            Cell::DateTime {
                year,
                month,
                day,
                hours,
                minutes,
                seconds,
                micros,
            } => write_str(
                text,
                format_args!(
                    "'{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{micros:06}'"
                ),
            ),
            Cell::Timestamp { seconds, micros } => text.push_str(&timestamp_literal(*seconds, *micros)),
            Cell::Text(bytes) => write_str(text, format_args!("'{}'", String::from_utf8_lossy(bytes))),
            Cell::Binary(bytes) => self.write_readable_binary(text, bytes),
            _ => return Err(self.refuse(cell)),
        }
        Ok(())
    }

    fn write_readable_binary(&self, text: &mut String, bytes: &[u8]) {
        match (
            &self.kind,
            <[u8; 4]>::try_from(bytes),
            <[u8; 16]>::try_from(bytes),
        ) {
            (ColumnKind::Inet4, Ok(octets), _) => {
                write_str(text, format_args!("'{}'", std::net::Ipv4Addr::from(octets)));
            }
            (ColumnKind::Inet6, _, Ok(octets)) => {
                write_str(text, format_args!("'{}'", std::net::Ipv6Addr::from(octets)));
            }
            (ColumnKind::Uuid, _, Ok(octets)) => {
                write_str(text, format_args!("'{}'", uuid_text(octets)));
            }
            _ => {
                text.push_str("X'");
                push_hex(text, bytes);
                text.push('\'');
            }
        }
    }

    /// The inverse of what the server writes for [`KeyColumn::select_expression`].
    fn parse(&self, bytes: &[u8]) -> Option<Cell> {
        let text = || std::str::from_utf8(bytes).ok();
        Some(match &self.kind {
            ColumnKind::Integer { unsigned: false, .. } => Cell::Int(text()?.parse().ok()?),
            ColumnKind::Integer { unsigned: true, .. } => Cell::UInt(text()?.parse().ok()?),
            ColumnKind::Double => Cell::Double(text()?.parse::<f64>().ok()?.to_bits()),
            ColumnKind::Decimal { .. } => Cell::Decimal(text()?.into()),
            ColumnKind::Text { .. } => Cell::Text(bytes.to_vec().into()),
            ColumnKind::Binary { .. } | ColumnKind::VarBinary => Cell::Binary(bytes.to_vec().into()),
            ColumnKind::Enum { .. } => Cell::Enum(parse_number(text()?)?),
            ColumnKind::Year => Cell::Year(parse_number(text()?)?),
            ColumnKind::Set { .. } => Cell::Set(parse_number(text()?)?),
            ColumnKind::Bit { .. } => Cell::Bit(parse_number(text()?)?),
            ColumnKind::Date => {
                let (year, month, day) = parse_date(text()?)?;
                Cell::Date { year, month, day }
            }
            ColumnKind::Time { .. } => parse_time(text()?)?,
            ColumnKind::DateTime { .. } => parse_datetime(text()?)?,
            ColumnKind::Timestamp { .. } => parse_timestamp(text()?)?,
            ColumnKind::Inet4 => Cell::Binary(
                text()?
                    .parse::<std::net::Ipv4Addr>()
                    .ok()?
                    .octets()
                    .to_vec()
                    .into(),
            ),
            ColumnKind::Inet6 => Cell::Binary(
                text()?
                    .parse::<std::net::Ipv6Addr>()
                    .ok()?
                    .octets()
                    .to_vec()
                    .into(),
            ),
            ColumnKind::Uuid => Cell::Binary(parse_uuid(text()?)?.to_vec().into()),
            _ => return None,
        })
    }
}

fn timestamp_literal(seconds: i64, micros: u32) -> String {
    if seconds == 0 && micros == 0 {
        return "'0000-00-00 00:00:00'".to_owned();
    }
    match jiff::Timestamp::from_second(seconds) {
        Ok(instant) => format!("'{}.{micros:06}'", instant.strftime("%Y-%m-%d %H:%M:%S")),
        Err(_) => format!("FROM_UNIXTIME({seconds}.{micros:06})"),
    }
}

/// `00112233-4455-6677-8899-aabbccddeeff`, as MariaDB writes it.
fn uuid_text(octets: [u8; 16]) -> String {
    let mut text = format!("{:032x}", u128::from_be_bytes(octets));
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    (digits.len() == 32)
        .then(|| u128::from_str_radix(&digits, 16).ok())
        .flatten()
        .map(u128::to_be_bytes)
}

fn parse_number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

fn parse_date(text: &str) -> Option<(u16, u8, u8)> {
    let mut parts = text.splitn(3, '-');
    Some((
        parse_number(parts.next()?)?,
        parse_number(parts.next()?)?,
        parse_number(parts.next()?)?,
    ))
}

/// Hours may have three digits; a fraction is filled up to six.
fn parse_clock(text: &str) -> Option<(u16, u8, u8, u32)> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let (hours, minutes, seconds) = (
        parse_number(parts.next()?)?,
        parse_number(parts.next()?)?,
        parse_number(parts.next()?)?,
    );
    let micros = if fraction.is_empty() {
        0
    } else {
        parse_number(&format!("{fraction:0<6}"))?
    };
    Some((hours, minutes, seconds, micros))
}

fn parse_time(text: &str) -> Option<Cell> {
    let (negative, clock) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (hours, minutes, seconds, micros) = parse_clock(clock)?;
    Some(Cell::Time {
        negative,
        hours,
        minutes,
        seconds,
        micros,
    })
}

fn parse_datetime(text: &str) -> Option<Cell> {
    let (date, clock) = text.split_once(' ')?;
    let (year, month, day) = parse_date(date)?;
    let (hours, minutes, seconds, micros) = parse_clock(clock)?;
    Some(Cell::DateTime {
        year,
        month,
        day,
        hours: u8::try_from(hours).ok()?,
        minutes,
        seconds,
        micros,
    })
}

/// The session's time zone is UTC, so the text is the instant.
fn parse_timestamp(text: &str) -> Option<Cell> {
    let Cell::DateTime {
        year,
        month,
        day,
        hours,
        minutes,
        seconds,
        micros,
    } = parse_datetime(text)?
    else {
        return None;
    };
    if year == 0 {
        return Some(Cell::Timestamp {
            seconds: 0,
            micros: 0,
        });
    }
    let civil = jiff::civil::DateTime::new(
        i16::try_from(year).ok()?,
        i8::try_from(month).ok()?,
        i8::try_from(day).ok()?,
        i8::try_from(hours).ok()?,
        i8::try_from(minutes).ok()?,
        i8::try_from(seconds).ok()?,
        0,
    )
    .ok()?;
    let instant = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Cell::Timestamp {
        seconds: instant.as_second(),
        micros,
    })
}

fn join(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}

/// Writing to a `String` cannot fail.
fn write_str(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: ColumnKind) -> KeyColumn {
        KeyColumn {
            source: name.to_owned(),
            target: name.to_owned(),
            target_kind: kind.clone(),
            kind,
            descending: false,
            target_match: TargetMatch::Collation,
        }
    }

    fn integer() -> ColumnKind {
        ColumnKind::Integer {
            width: 8,
            unsigned: false,
        }
    }

    fn text(charset: &str) -> ColumnKind {
        ColumnKind::Text {
            charset: charset.to_owned(),
            collation: format!("{charset}_general_ci"),
        }
    }

    #[test]
    fn a_uuid_is_written_as_it_is_read() {
        let spec = KeySpec {
            columns: vec![column("k", ColumnKind::Uuid)],
        };
        let text = "00000093-1234-2abc-8abc-0123456789ab";
        let key = spec.parse(&[Some(text.into())]).unwrap();
        assert_eq!(
            spec.in_keys(Side::Source, [&key]).unwrap(),
            format!("`k` IN ('{text}')")
        );
        assert!(spec.parse(&[Some("93-1234".into())]).is_err());
    }

    #[test]
    fn one_column_is_looked_up_by_in() {
        let spec = KeySpec {
            columns: vec![column("id", integer())],
        };
        let keys = [Key::new(vec![Cell::Int(-3)]), Key::new(vec![Cell::Int(7)])];
        assert_eq!(spec.in_keys(Side::Source, &keys).unwrap(), "`id` IN (-3,7)");
        assert_eq!(spec.in_keys(Side::Source, []).unwrap(), "FALSE");
    }

    #[test]
    fn several_columns_are_looked_up_by_a_chain_of_ors() {
        let spec = KeySpec {
            columns: vec![column("a", integer()), column("b", text("latin1"))],
        };
        let keys = [Key::new(vec![Cell::Int(1), Cell::Text(vec![0xe9].into())])];
        assert_eq!(
            spec.in_keys(Side::Target, &keys).unwrap(),
            "((`a` = 1 AND `b` = _latin1 X'E9'))"
        );
    }

    #[test]
    fn a_changed_collation_is_looked_up_byte_by_byte_on_the_target() {
        let mut changed = column("b", text("latin1"));
        changed.target_kind = text("utf8mb4");
        changed.target_match = TargetMatch::Bytes;
        let spec = KeySpec {
            columns: vec![changed],
        };
        let keys = [Key::new(vec![Cell::Text(vec![0xe9].into())])];
        assert_eq!(
            spec.in_keys(Side::Source, &keys).unwrap(),
            "`b` IN (_latin1 X'E9')"
        );
        assert_eq!(
            spec.in_keys(Side::Target, &keys).unwrap(),
            "((`b` = _latin1 X'E9' AND CAST(`b` AS BINARY) = CAST(CONVERT(_latin1 X'E9' USING utf8mb4) AS BINARY)))"
        );
    }

    #[test]
    fn a_range_of_two_columns_names_the_first_alone_as_well() {
        let mut down = column("b", integer());
        down.descending = true;
        let spec = KeySpec {
            columns: vec![column("a", integer()), down],
        };
        let range = KeyRange {
            from: Bound::Excluded(Key::new(vec![Cell::Int(1), Cell::Int(2)])),
            to: Bound::Included(Key::new(vec![Cell::Int(9), Cell::Int(8)])),
        };
        assert_eq!(
            spec.in_range(Side::Source, &range).unwrap(),
            "`a` >= 1 AND ((`a` > 1) OR (`a` = 1 AND `b` < 2)) AND `a` <= 9 AND ((`a` < 9) OR (`a` = 9 AND `b` >= 8))"
        );
        assert_eq!(spec.order(Direction::Forward), "`a`, `b` DESC");
        assert_eq!(spec.order(Direction::Backward), "`a` DESC, `b`");
        assert_eq!(
            spec.in_range(
                Side::Source,
                &KeyRange {
                    from: Bound::Open,
                    to: Bound::Open
                }
            )
            .unwrap(),
            "TRUE"
        );
    }

    #[test]
    fn what_the_server_writes_is_read_back() {
        let cases = [
            (
                ColumnKind::Time { fsp: 3 },
                "-838:59:59.100",
                "'-838:59:59.100000'",
            ),
            (
                ColumnKind::DateTime { fsp: 0 },
                "2024-02-29 23:59:59",
                "'2024-02-29 23:59:59.000000'",
            ),
            (
                ColumnKind::Timestamp { fsp: 2 },
                "2024-02-29 23:59:59.25",
                "'2024-02-29 23:59:59.250000'",
            ),
            (
                ColumnKind::Timestamp { fsp: 0 },
                "0000-00-00 00:00:00",
                "'0000-00-00 00:00:00'",
            ),
            (ColumnKind::Date, "0000-00-00", "'0000-00-00'"),
            (
                ColumnKind::Decimal {
                    precision: 5,
                    scale: 2,
                },
                "-12.50",
                "-12.50",
            ),
            (ColumnKind::Double, "0.1", "1e-1"),
            (ColumnKind::Inet6, "::1", "'::1'"),
        ];
        for (kind, written, literal) in cases {
            let spec = KeySpec {
                columns: vec![column("k", kind)],
            };
            let key = spec.parse(&[Some(written.as_bytes().to_vec())]).unwrap();
            assert_eq!(
                spec.in_keys(Side::Source, [&key]).unwrap(),
                format!("`k` IN ({literal})")
            );
        }
    }

    #[test]
    fn null_is_not_a_key() {
        let spec = KeySpec {
            columns: vec![column("id", integer())],
        };
        assert!(spec.in_keys(Side::Source, [&Key::new(vec![Cell::Null])]).is_err());
        assert!(spec.parse(&[None]).is_err());
    }
}
