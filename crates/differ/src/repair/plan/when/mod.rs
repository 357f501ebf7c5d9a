//! `when`: a condition over the two rows.
//!
//! ```text
//! when    := or ; or := and (OR and)* ; and := not (AND not)* ; not := NOT not | '(' or ')' | test
//! test    := operand (= | != | < | <= | > | >=) operand | operand IN (literal, …) | operand IS [NOT] NULL
//! operand := n1.column | n2.column | 'text' ('' inside is one quote) | number | true | false | null
//! ```
//!
//! There is no third truth value: `null = null` is true, NULL equals nothing else, and `<` with NULL is an error, as is a
//! comparison of a number with a text. `x NOT IN (…)` is written `NOT x IN (…)`. A column name with a character that is not
//! a letter, digit, `_` or `$` is written in double quotes: `n1."first name"`.

mod evaluate;
mod parse;
mod token;

use super::{Place, Value};

pub use evaluate::Undecided;
pub use parse::Misread;

/// A condition, ready to be asked.
#[derive(Clone, Debug)]
pub struct Condition(Expression);

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`Misread`] says where.
    pub fn read(text: &str) -> Result<Self, Misread> {
        parse::parse(text).map(Self)
    }

    /// The columns that the condition looks at.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        self.0.gather_columns(&mut columns);
        columns
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    Or(Vec<Expression>),
    And(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Operand, Comparison, Operand),
    In(Operand, Vec<Value>),
    IsNull(Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Column(Place, String),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Comparison {
    fn word(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}

impl Expression {
    fn gather_columns<'a>(&'a self, into: &mut Vec<&'a str>) {
        let mut of_operand = |operand: &'a Operand| {
            if let Operand::Column(_, name) = operand {
                into.push(name);
            }
        };
        match self {
            Self::Compare(left, _, right) => {
                of_operand(left);
                of_operand(right);
            }
            Self::In(operand, _) | Self::IsNull(operand) => of_operand(operand),
            Self::Or(parts) | Self::And(parts) => {
                for part in parts {
                    part.gather_columns(into);
                }
            }
            Self::Not(inner) => inner.gather_columns(into),
        }
    }
}

#[cfg(test)]
mod tests;
