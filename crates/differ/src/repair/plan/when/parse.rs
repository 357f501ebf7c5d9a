//! The grammar of conditions, by recursive descent.

use std::str::FromStr;

use super::super::value::Number;
use super::super::{Place, Value};
use super::token::{Placed, Token, tokens};
use super::{Comparison, Expression, Operand};

/// Each parenthesis and NOT is one level of recursion.
const MAX_DEPTH: usize = 200;

/// Why a condition was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {}: {what}", at + 1)]
pub struct Misread {
    /// Where, in characters from 0.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

impl Misread {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Expression, Misread> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
        end: text.chars().count(),
    };
    let expression = parser.or()?;
    match parser.tokens.get(parser.next) {
        None => Ok(expression),
        Some((at, token)) => Err(Misread::new(
            *at,
            format!("{} where AND, OR or the end was expected", token.describe()),
        )),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &Token) -> bool {
        let found = self.peek() == Some(sign);
        self.next += usize::from(found);
        found
    }

    fn expected<T>(&self, what: &str) -> Result<T, Misread> {
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::describe);
        Err(Misread::new(
            self.at(),
            format!("{found} where {what} was expected"),
        ))
    }

    fn or(&mut self) -> Result<Expression, Misread> {
        let mut parts = vec![self.and()?];
        while self.keyword("or") {
            parts.push(self.and()?);
        }
        Ok(single(parts, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, Misread> {
        let mut parts = vec![self.not()?];
        while self.keyword("and") {
            parts.push(self.not()?);
        }
        Ok(single(parts, Expression::And))
    }

    fn not(&mut self) -> Result<Expression, Misread> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Misread::new(self.at(), "nested too deeply"));
        }
        let expression = if self.keyword("not") {
            Expression::Not(Box::new(self.not()?))
        } else if self.sign(&Token::Open) {
            let inner = self.or()?;
            if !self.sign(&Token::Close) {
                return self.expected("`)`");
            }
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn test(&mut self) -> Result<Expression, Misread> {
        let left = self.operand()?;
        if let Some(Token::Compare(comparison)) = self.peek() {
            let comparison = *comparison;
            self.next += 1;
            return self.comparison(left, comparison);
        }
        if self.keyword("in") {
            return Ok(Expression::In(left, self.literals()?));
        }
        if self.keyword("is") {
            let negated = self.keyword("not");
            if !self.keyword("null") {
                return self.expected("NULL");
            }
            let test = Expression::IsNull(left);
            return Ok(if negated {
                Expression::Not(Box::new(test))
            } else {
                test
            });
        }
        if matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case("not")) {
            return Err(Misread::new(
                self.at(),
                "`x NOT IN (…)` is written `NOT x IN (…)`",
            ));
        }
        self.expected("a comparison, IN or IS")
    }

    fn comparison(&mut self, left: Operand, comparison: Comparison) -> Result<Expression, Misread> {
        let at = self.at();
        let right = self.operand()?;
        let orders = !matches!(comparison, Comparison::Equal | Comparison::Unequal);
        let null = Operand::Literal(Value::Null);
        if orders && (left == null || right == null) {
            return Err(Misread::new(
                at,
                format!("NULL has no order: {} cannot be used with it", comparison.word()),
            ));
        }
        Ok(Expression::Compare(left, comparison, right))
    }

    fn operand(&mut self) -> Result<Operand, Misread> {
        if let Some(Token::Word(word)) = self.peek()
            && let Some(place) = Place::of_word(&word.to_ascii_lowercase())
        {
            self.next += 1;
            return self.column(place);
        }
        self.literal().map(Operand::Literal)
    }

    fn column(&mut self, place: Place) -> Result<Operand, Misread> {
        if !self.sign(&Token::Dot) {
            return self.expected("`.` and a column's name");
        }
        match self.peek() {
            Some(Token::Word(name) | Token::Name(name)) => {
                let name = name.clone();
                self.next += 1;
                Ok(Operand::Column(place, name))
            }
            _ => self.expected("a column's name"),
        }
    }

    fn literal(&mut self) -> Result<Value, Misread> {
        let at = self.at();
        let word = match self.take() {
            Some(Token::Text(text)) => return Ok(Value::Text(text)),
            Some(Token::Number(text)) => {
                let number = Number::from_str(&text);
                return number
                    .map(Value::Number)
                    .map_err(|()| Misread::new(at, format!("{text} is not a number")));
            }
            Some(Token::Word(word)) => word,
            other => {
                self.next -= usize::from(other.is_some());
                return self.expected("n1.column, n2.column or a value");
            }
        };
        match word.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            _ => Err(Misread::new(
                at,
                format!("`{word}` is no value: a column is n1.{word} or n2.{word}, a text is '{word}'"),
            )),
        }
    }

    fn literals(&mut self) -> Result<Vec<Value>, Misread> {
        if !self.sign(&Token::Open) {
            return self.expected("`(`");
        }
        let mut values = vec![self.literal()?];
        while self.sign(&Token::Comma) {
            values.push(self.literal()?);
        }
        if !self.sign(&Token::Close) {
            return self.expected("`,` or `)`");
        }
        Ok(values)
    }
}

fn single(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 {
        parts.remove(0)
    } else {
        several(parts)
    }
}
