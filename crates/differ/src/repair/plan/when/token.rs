//! Words and signs of a condition.

use super::{Comparison, Misread};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: a keyword or a node's name.
    Word(String),
    /// A name in double quotes.
    Name(String),
    Text(String),
    Number(String),
    Compare(Comparison),
    Dot,
    Comma,
    Open,
    Close,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) | Self::Number(word) => format!("`{word}`"),
            Self::Name(name) => format!("`\"{name}\"`"),
            Self::Text(text) => format!("the text '{text}'"),
            Self::Compare(comparison) => format!("`{}`", comparison.word()),
            Self::Dot => "`.`".into(),
            Self::Comma => "`,`".into(),
            Self::Open => "`(`".into(),
            Self::Close => "`)`".into(),
        }
    }
}

/// A token and the character at which it begins, from 0.
pub(super) type Placed = (usize, Token);

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, Misread> {
    let mut scanner = Scanner {
        characters: text.chars().collect(),
        at: 0,
    };
    let mut tokens = Vec::new();
    while let Some(token) = scanner.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Scanner {
    characters: Vec<char>,
    at: usize,
}

impl Scanner {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&fits) {
            self.at += 1;
        }
        self.characters[start..self.at].iter().collect()
    }

    fn next(&mut self) -> Result<Option<Placed>, Misread> {
        self.take_while(char::is_whitespace);
        let start = self.at;
        let Some(character) = self.peek() else {
            return Ok(None);
        };
        let token = match character {
            '\'' => Token::Text(self.quoted('\'')?),
            '"' => Token::Name(self.quoted('"')?),
            '0'..='9' | '-' => self.number()?,
            _ if character.is_alphabetic() || character == '_' => {
                Token::Word(self.take_while(|c| c.is_alphanumeric() || c == '_' || c == '$'))
            }
            _ => self.sign(character)?,
        };
        Ok(Some((start, token)))
    }

    fn sign(&mut self, character: char) -> Result<Token, Misread> {
        let start = self.at;
        self.at += 1;
        let with_equals = self.peek() == Some('=');
        let (token, long) = match (character, with_equals) {
            ('(', _) => (Token::Open, false),
            (')', _) => (Token::Close, false),
            (',', _) => (Token::Comma, false),
            ('.', _) => (Token::Dot, false),
            ('=', _) => (Token::Compare(Comparison::Equal), false),
            ('!', true) => (Token::Compare(Comparison::Unequal), true),
            ('<', true) => (Token::Compare(Comparison::AtMost), true),
            ('>', true) => (Token::Compare(Comparison::AtLeast), true),
            ('<', false) if self.peek() == Some('>') => {
                return Err(Misread::new(start, "`<>` is written `!=` here"));
            }
            ('<', false) => (Token::Compare(Comparison::Less), false),
            ('>', false) => (Token::Compare(Comparison::Greater), false),
            _ => return Err(Misread::new(start, format!("`{character}` has no meaning here"))),
        };
        self.at += usize::from(long);
        Ok(token)
    }

    /// Text in quotes; two of them inside stand for one.
    fn quoted(&mut self, quote: char) -> Result<String, Misread> {
        let start = self.at;
        let mut text = String::new();
        loop {
            self.at += 1;
            match self.peek() {
                None => return Err(Misread::new(start, format!("the closing {quote} is missing"))),
                Some(character) if character != quote => text.push(character),
                Some(_) if self.characters.get(self.at + 1) == Some(&quote) => {
                    self.at += 1;
                    text.push(quote);
                }
                Some(_) => {
                    self.at += 1;
                    return Ok(text);
                }
            }
        }
    }

    fn number(&mut self) -> Result<Token, Misread> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some('-'));
        let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
        let sign: String = self.characters[start..self.at - text.chars().count()]
            .iter()
            .collect();
        let well_formed = text.split('.').count() <= 2
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text.ends_with(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || c == '.');
        if !well_formed {
            return Err(Misread::new(start, format!("`{sign}{text}` is not a number")));
        }
        Ok(Token::Number(sign + &text))
    }
}
