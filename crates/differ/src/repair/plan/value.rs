//! Values as plans compare them.

use std::cmp::Ordering;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use jiff::civil;
use jiff::tz::TimeZone;

use super::Literal;

/// Digits and zeros that a number may need when it is written out: PostgreSQL's numeric has at most 131 072 before the
/// point and 16 383 behind it.
const MAX_MAGNITUDE: i64 = 150_000;

/// A value of a row, or of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL's NULL, and the value of every column of a row that is not there.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number, exactly.
    Number(Number),
    /// A point in time. A time stamp without time zone is taken as UTC's.
    Instant(Instant),
    /// Anything else, in the server's words.
    Text(String),
}

/// A number; PostgreSQL's order puts what is not a number last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    /// `-Infinity`
    NegativeInfinity,
    /// A number in the ordinary sense.
    Finite(BigDecimal),
    /// `Infinity`
    Infinity,
    /// `NaN`
    Undefined,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instant {
    /// `-infinity`
    Past,
    /// Nanoseconds since 1970, UTC.
    At(i128),
    /// `infinity`
    Future,
}

/// How a column's text is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanKind {
    /// Integers, decimals and floats.
    Number,
    /// Truth values.
    Bool,
    /// Dates and time stamps.
    Instant,
    /// Whatever has no order that a plan could know.
    Text,
}

impl PlanKind {
    /// The kind of a type, by its name as the server writes it (`numeric(10,2)`, `timestamp with time zone`).
    #[must_use]
    pub fn of_type(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase();
        if name.ends_with(']') {
            return Self::Text;
        }
        let word = name.split(['(', ' ']).next().unwrap_or_default();
        match word {
            "smallint" | "integer" | "bigint" | "int" | "int2" | "int4" | "int8" | "tinyint"
            | "mediumint" | "numeric" | "decimal" | "real" | "double" | "float" | "float4" | "float8"
            | "oid" | "year" => Self::Number,
            "boolean" | "bool" => Self::Bool,
            "timestamp" | "timestamptz" | "date" | "datetime" => Self::Instant,
            _ => Self::Text,
        }
    }
}

/// Two values that have no order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} and {right} cannot be compared with {operator}")]
pub struct Incomparable {
    left: String,
    operator: &'static str,
    right: String,
}

impl Value {
    /// The value of a column of this kind whose text is `text`. Text that does not fit the kind (a year that no calendar
    /// here knows, a date of MySQL's that is none) stays text.
    #[must_use]
    pub fn of_text(text: &str, kind: PlanKind) -> Self {
        let understood = match kind {
            PlanKind::Number => Number::from_str(text).ok().map(Self::Number),
            PlanKind::Bool => truth(text).map(Self::Bool),
            PlanKind::Instant => Instant::from_str(text).ok().map(Self::Instant),
            PlanKind::Text => None,
        };
        understood.unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    /// Compares for equality and order.
    ///
    /// # Errors
    /// [`Incomparable`] for values of different kinds. A text beside a point in time is read as one first.
    pub fn compare(&self, operator: &'static str, other: &Self) -> Result<Ordering, Incomparable> {
        let refused = || Incomparable {
            left: self.describe(),
            operator,
            right: other.describe(),
        };
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => Ok(left.cmp(right)),
            (Self::Number(left), Self::Number(right)) => Ok(left.cmp(right)),
            (Self::Instant(left), Self::Instant(right)) => Ok(left.cmp(right)),
            (Self::Text(left), Self::Text(right)) => Ok(left.cmp(right)),
            (Self::Instant(left), Self::Text(right)) => Instant::from_str(right)
                .map(|right| left.cmp(&right))
                .map_err(|()| refused()),
            (Self::Text(left), Self::Instant(right)) => Instant::from_str(left)
                .map(|left| left.cmp(right))
                .map_err(|()| refused()),
            _ => Err(refused()),
        }
    }

    /// Whether a key column has the value that a plan names. Here quotes in the plan mean nothing: `'42'` is the key 42
    /// of an integer column and 42 is the key `'42'` of a text column.
    pub(super) fn is(&self, literal: &Literal) -> bool {
        self.against(literal) == Some(Ordering::Equal)
    }

    /// The order of a key column's value and one that a plan names; `None` where there is none.
    pub(super) fn against(&self, literal: &Literal) -> Option<Ordering> {
        let text = literal.text()?;
        match self {
            Self::Null => None,
            Self::Bool(value) => truth(text).map(|other| value.cmp(&other)),
            Self::Number(value) => Number::from_str(text).ok().map(|other| value.cmp(&other)),
            Self::Instant(value) => Instant::from_str(text).ok().map(|other| value.cmp(&other)),
            Self::Text(value) => Some(value.as_str().cmp(text)),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => format!("the truth value {value}"),
            Self::Number(Number::Finite(value)) => format!("the number {value}"),
            Self::Number(value) => format!("the number {value:?}"),
            Self::Instant(_) => "a point in time".into(),
            Self::Text(value) => format!("the text {value:?}"),
        }
    }
}

impl Literal {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Plain(text) | Self::Quoted(text) => Some(text),
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "t" | "true" => Some(true),
        "f" | "false" => Some(false),
        _ => None,
    }
}

impl FromStr for Number {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "NaN" => return Ok(Self::Undefined),
            "Infinity" | "inf" => return Ok(Self::Infinity),
            "-Infinity" | "-inf" => return Ok(Self::NegativeInfinity),
            _ => {}
        }
        let number = BigDecimal::from_str(text).map_err(|_| ())?;
        // Comparing writes numbers out to a common exponent.
        let (_, exponent) = number.as_bigint_and_exponent();
        if exponent.abs() > MAX_MAGNITUDE {
            return Err(());
        }
        Ok(Self::Finite(number))
    }
}

impl FromStr for Instant {
    type Err = ();

    /// Reads what PostgreSQL and MySQL write and what RFC 3339 allows.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "infinity" => return Ok(Self::Future),
            "-infinity" => return Ok(Self::Past),
            _ => {}
        }
        let nanoseconds = |timestamp: jiff::Timestamp| Self::At(timestamp.as_nanosecond());
        if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
            return Ok(nanoseconds(timestamp));
        }
        let local = text.parse::<civil::DateTime>().map_err(|_| ())?;
        let zoned = local.to_zoned(TimeZone::UTC).map_err(|_| ())?;
        Ok(nanoseconds(zoned.timestamp()))
    }
}
