//! Asking a condition about two rows.

use std::cmp::Ordering;

use super::super::{Incomparable, PlanPair, Value};
use super::{Comparison, Condition, Expression, Operand};

/// Why a condition has no answer for a pair of rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// Two values of different kinds.
    #[error(transparent)]
    Incomparable(#[from] Incomparable),
    /// An order was asked for where there is none.
    #[error(
        "{operator} was asked of NULL; ask IS NOT NULL first, as in `n1.x IS NOT NULL AND n1.x {operator} …`"
    )]
    Null {
        /// Which.
        operator: &'static str,
    },
    /// The rows have no such column.
    #[error("there is no column {0}")]
    Column(String),
}

impl Condition {
    /// Whether the condition holds. What stands right of an `AND` or `OR` that is decided already is not asked.
    ///
    /// # Errors
    /// [`Undecided`].
    pub fn holds(&self, pair: &PlanPair<'_>) -> Result<bool, Undecided> {
        holds(&self.0, pair)
    }
}

fn holds(expression: &Expression, pair: &PlanPair<'_>) -> Result<bool, Undecided> {
    match expression {
        Expression::Or(parts) => {
            for part in parts {
                if holds(part, pair)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Expression::And(parts) => {
            for part in parts {
                if !holds(part, pair)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Expression::Not(inner) => holds(inner, pair).map(|held| !held),
        Expression::Compare(left, comparison, right) => {
            compare(&value(left, pair)?, *comparison, &value(right, pair)?)
        }
        Expression::In(operand, values) => {
            let operand = value(operand, pair)?;
            for value in values {
                if compare(&operand, Comparison::Equal, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Expression::IsNull(operand) => Ok(value(operand, pair)? == Value::Null),
    }
}

fn value(operand: &Operand, pair: &PlanPair<'_>) -> Result<Value, Undecided> {
    match operand {
        Operand::Literal(value) => Ok(value.clone()),
        Operand::Column(place, column) => match pair.row(*place) {
            Some(row) => row.value(column).ok_or_else(|| Undecided::Column(column.clone())),
            None => Ok(Value::Null),
        },
    }
}

fn compare(left: &Value, comparison: Comparison, right: &Value) -> Result<bool, Undecided> {
    let null = (*left == Value::Null, *right == Value::Null);
    let order = match (null, comparison) {
        ((false, false), _) => left.compare(comparison.word(), right)?,
        ((true, true), Comparison::Equal | Comparison::Unequal) => Ordering::Equal,
        // Not equal, whichever way round.
        (_, Comparison::Equal | Comparison::Unequal) => Ordering::Less,
        _ => {
            return Err(Undecided::Null {
                operator: comparison.word(),
            });
        }
    };
    Ok(match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::AtMost => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::AtLeast => order.is_ge(),
    })
}
