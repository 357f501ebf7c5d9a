//! Cuts SQL text into tokens, as far as clauses of an `ALTER TABLE` need it.

use std::ops::Range;

use super::AlterError;

/// How a token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Letters, digits, `_`, `$`, and everything beyond ASCII: a keyword, a bare name or a number.
    Word,
    /// `` `…` ``: always a name.
    Backticks,
    /// `"…"`: a name under `ANSI_QUOTES`, else a text. Where a name is due it is taken for one.
    DoubleQuotes,
    /// `'…'`.
    Text,
    /// Any other single character.
    Symbol(char),
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    /// As it is written, quotes included.
    pub(super) raw: &'a str,
    pub(super) start: usize,
    /// How many parentheses are open around it; a parenthesis itself counts as outside.
    pub(super) depth: usize,
}

impl<'a> Token<'a> {
    pub(super) fn end(&self) -> usize {
        self.start + self.raw.len()
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.raw.eq_ignore_ascii_case(keyword)
    }

    pub(super) fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    pub(super) fn is_symbol(&self, symbol: char) -> bool {
        self.kind == TokenKind::Symbol(symbol)
    }

    /// The name that the token means, if it can be one.
    pub(super) fn name(&self) -> Option<String> {
        let quote = match self.kind {
            TokenKind::Word => return Some(self.raw.to_owned()),
            TokenKind::Backticks => '`',
            TokenKind::DoubleQuotes => '"',
            _ => return None,
        };
        Some(unquote(self.raw, quote))
    }

    /// The name or the text that the token means: `ENGINE='InnoDB'`.
    pub(super) fn name_or_text(&self) -> Option<String> {
        if self.kind == TokenKind::Text {
            Some(unquote(self.raw, '\''))
        } else {
            self.name()
        }
    }
}

fn unquote(raw: &str, quote: char) -> String {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let doubled: String = [quote, quote].iter().collect();
    inner.replace(&doubled, &quote.to_string())
}

/// The tokens of a text.
pub(super) struct Tokens<'a> {
    pub(super) list: Vec<Token<'a>>,
    /// Whether `/*! … */` or `/*M! … */` was met: its content is SQL for the server, and for us.
    pub(super) executable_comments: bool,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    executable: usize,
    seen_executable: bool,
    list: Vec<Token<'a>>,
}

/// Cuts `text` into tokens; comments are left out, what is inside of executable ones stays in.
pub(super) fn tokenize(text: &str, backslash_escapes: bool) -> Result<Tokens<'_>, AlterError> {
    let mut scanner = Scanner {
        text,
        at: 0,
        depth: 0,
        executable: 0,
        seen_executable: false,
        list: Vec::new(),
    };
    while let Some(c) = scanner.peek() {
        scanner.step(c, backslash_escapes)?;
    }
    if scanner.executable > 0 {
        return Err(AlterError::Unterminated {
            what: "comment",
            at: text.len(),
        });
    }
    if scanner.depth > 0 {
        return Err(AlterError::Unterminated {
            what: "parenthesis",
            at: text.len(),
        });
    }
    Ok(Tokens {
        list: scanner.list,
        executable_comments: scanner.seen_executable,
    })
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, kind: TokenKind, range: Range<usize>) {
        let start = range.start;
        if let Some(raw) = self.text.get(range) {
            self.list.push(Token {
                kind,
                raw,
                start,
                depth: self.depth,
            });
        }
    }

    fn step(&mut self, c: char, backslash_escapes: bool) -> Result<(), AlterError> {
        let start = self.at;
        let rest = self.rest();
        match c {
            _ if c.is_whitespace() || c == '\0' => self.at += c.len_utf8(),
            '#' => self.skip_line(),
            '-' if is_dash_comment(rest) => self.skip_line(),
            '/' if rest.starts_with("/*") => self.comment(rest)?,
            '*' if self.executable > 0 && rest.starts_with("*/") => {
                self.executable -= 1;
                self.at += 2;
            }
            '\'' | '"' | '`' => {
                let kind = match c {
                    '\'' => TokenKind::Text,
                    '"' => TokenKind::DoubleQuotes,
                    _ => TokenKind::Backticks,
                };
                self.at = quoted_end(self.text, start, c, backslash_escapes && c != '`').ok_or(
                    AlterError::Unterminated {
                        what: "quote",
                        at: start,
                    },
                )?;
                self.push(kind, start..self.at);
            }
            _ if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                self.at += length;
                self.push(TokenKind::Word, start..self.at);
            }
            _ => {
                self.at += c.len_utf8();
                if c == ')' {
                    self.depth = self
                        .depth
                        .checked_sub(1)
                        .ok_or(AlterError::Unbalanced { at: start })?;
                }
                self.push(TokenKind::Symbol(c), start..self.at);
                if c == '(' {
                    self.depth += 1;
                }
            }
        }
        Ok(())
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').map_or(self.rest().len(), |at| at + 1);
    }

    fn comment(&mut self, rest: &str) -> Result<(), AlterError> {
        for opening in ["/*!", "/*M!"] {
            if let Some(body) = rest.strip_prefix(opening) {
                let digits = body.bytes().take(6).take_while(u8::is_ascii_digit).count();
                // A version number has five or six digits; fewer are part of the SQL.
                let digits = if digits >= 5 { digits } else { 0 };
                self.at += opening.len() + digits;
                self.executable += 1;
                self.seen_executable = true;
                return Ok(());
            }
        }
        let length = rest.get(2..).and_then(|body| body.find("*/"));
        let length = length.ok_or(AlterError::Unterminated {
            what: "comment",
            at: self.at,
        })?;
        self.at += length + 4;
        Ok(())
    }
}

/// `--` begins a comment only before white space or at the end.
fn is_dash_comment(rest: &str) -> bool {
    rest.strip_prefix("--").is_some_and(|after| {
        after
            .chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || c.is_control())
    })
}

/// Where the quoted piece that begins at `start` ends, past its closing quote.
fn quoted_end(text: &str, start: usize, quote: char, backslash_escapes: bool) -> Option<usize> {
    let mut characters = text.get(start + 1..)?.char_indices().peekable();
    while let Some((offset, c)) = characters.next() {
        if c == '\\' && backslash_escapes {
            characters.next();
        } else if c == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return Some(start + 1 + offset + 1);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn words(text: &str) -> Vec<String> {
        tokenize(text, true)
            .expect("valid")
            .list
            .iter()
            .map(|token| token.raw.to_owned())
            .collect()
    }

    #[rstest]
    #[case("add a-- x\n int", &["add", "a", "int"])]
    #[case("a--1", &["a", "-", "-", "1"])]
    #[case("a # (\n b", &["a", "b"])]
    #[case("a /* ( ' */ b", &["a", "b"])]
    #[case("/*!80000 a */ b /*M!100301 c*/", &["a", "b", "c"])]
    #[case("/*! a /* x */ b */ c", &["a", "b", "c"])]
    #[case(r"'it''s' 'a\'b' `c``d`", &["'it''s'", r"'a\'b'", "`c``d`"])]
    #[case("é1 x.y(2)", &["é1", "x", ".", "y", "(", "2", ")"])]
    fn pieces(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(words(text), expected);
    }

    #[rstest]
    #[case("'abc")]
    #[case("`abc")]
    #[case("/* abc")]
    #[case("/*! abc")]
    #[case("(abc")]
    #[case("abc)")]
    fn unfinished_text_is_refused(#[case] text: &str) {
        assert!(tokenize(text, true).is_err());
    }

    #[test]
    fn a_backslash_is_plain_where_the_server_says_so() {
        assert!(tokenize(r"'a\'", true).is_err());
        assert_eq!(tokenize(r"'a\' b", false).expect("valid").list.len(), 2);
    }

    proptest! {
        #[test]
        fn never_panics_and_tokens_are_in_order(text in "\\PC*", escapes: bool) {
            if let Ok(tokens) = tokenize(&text, escapes) {
                let mut end = 0;
                for token in tokens.list {
                    prop_assert!(token.start >= end && token.end() <= text.len());
                    end = token.end();
                }
            }
        }

        #[test]
        fn never_panics_on_what_looks_like_sql(text in r#"[ab,()'"`/*!\\#\-M0-9 \n;=.]{0,40}"#, escapes: bool) {
            let _ = tokenize(&text, escapes);
        }
    }
}
