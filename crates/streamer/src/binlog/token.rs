//! The pieces of a statement: words, names, strings and signs, as the server would cut them.

pub(crate) const ANSI_QUOTES: u64 = 4;
pub(crate) const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An unquoted word: a keyword, a name or a number.
    Word(String),
    /// A quoted name.
    Name(String),
    /// A string's content.
    Text(String),
    Sign(char),
}

/// Cuts a statement into pieces, without its comments.
pub(crate) fn tokens(text: &str, sql_mode: u64) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let quoted_by = |quote: char| quote == first;
        if first.is_whitespace() || first == '\0' {
            rest = &rest[first.len_utf8()..];
        } else if rest.starts_with("/*") {
            rest = after_comment(rest);
        } else if rest.starts_with("*/") {
            // The end of a comment whose content was for the server to execute.
            rest = &rest[2..];
        } else if first == '#' || starts_dash_comment(rest) {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if "`'\"".chars().any(quoted_by) {
            let escapes = first != '`' && sql_mode & NO_BACKSLASH_ESCAPES == 0;
            let is_name = first == '`' || first == '"' && sql_mode & ANSI_QUOTES != 0;
            let (content, after) = quoted(rest, first, escapes && !is_name);
            tokens.push(if is_name {
                Token::Name(content)
            } else {
                Token::Text(content)
            });
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Sign(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '$') || character >= '\u{80}'
}

fn starts_dash_comment(rest: &str) -> bool {
    rest.strip_prefix("--").is_some_and(|after| {
        after
            .chars()
            .next()
            .is_none_or(|next| next.is_whitespace() || next.is_control())
    })
}

/// Behind a comment; behind only its opening if the server executes the content (`/*!50100 … */`).
fn after_comment(rest: &str) -> &str {
    let executed = rest.strip_prefix("/*!").or_else(|| rest.strip_prefix("/*M!"));
    match executed {
        Some(content) => content.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest
            .get(2..)
            .and_then(|content| content.split_once("*/"))
            .map_or("", |(_, after)| after),
    }
}

/// The content of a quoted piece and what follows it. Quotes are doubled inside, in strings also escaped.
fn quoted(text: &str, quote: char, escapes: bool) -> (String, &str) {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if escapes && character == '\\' {
            content.extend(characters.next().map(|(_, escaped)| escaped));
        } else if character != quote {
            content.push(character);
        } else if characters.peek().is_some_and(|(_, next)| *next == quote) {
            characters.next();
            content.push(quote);
        } else {
            return (content, &text[at + quote.len_utf8()..]);
        }
    }
    (content, "")
}
