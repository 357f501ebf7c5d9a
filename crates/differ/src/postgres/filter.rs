//! The operator's own predicate: any SQL expression, but one that stays within its parentheses.

/// A predicate that would reach beyond the place it is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table filter is not one expression: {0}")]
pub struct FilterError(&'static str);

/// Checks that quotes, comments and parentheses are closed, so that `(filter)` is one operand. Whether it is SQL says
/// the server.
///
/// # Errors
/// It would reach beyond its place: `a) OR (b`.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    if filter.trim().is_empty() {
        return Err(FilterError("it is empty"));
    }
    let mut depth = 0u32;
    let mut rest = filter;
    while let Some(character) = rest.chars().next() {
        if calls_what_changes(filter, rest) {
            return Err(FilterError(
                "it calls a function that answers something else each time, so no row would be compared reliably",
            ));
        }
        let skipped = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)?
        } else {
            match character {
                '\'' => quoted(rest, '\'', escapes(filter, rest))?,
                '"' => quoted(rest, '"', false)?,
                '$' => dollar_quoted(filter, rest)?,
                '(' => {
                    depth += 1;
                    1
                }
                ')' => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or(FilterError("a parenthesis closes that none opened"))?;
                    1
                }
                ';' => return Err(FilterError("it holds a semicolon")),
                other => other.len_utf8(),
            }
        };
        rest = &rest[skipped..];
    }
    if depth == 0 {
        Ok(())
    } else {
        Err(FilterError("a parenthesis is not closed"))
    }
}

/// Whether a call of one of the functions begins here by which a row is chosen once and not the next time.
fn calls_what_changes(whole: &str, rest: &str) -> bool {
    const CHANGING: [&str; 9] = [
        "random",
        "clock_timestamp",
        "timeofday",
        "gen_random_uuid",
        "nextval",
        "rand",
        "uuid",
        "sysdate",
        "txid_current",
    ];
    let before = whole[..whole.len() - rest.len()].chars().next_back();
    if before.is_some_and(is_word) {
        return false;
    }
    let word: String = rest.chars().take_while(|&character| is_word(character)).collect();
    CHANGING.contains(&word.to_lowercase().as_str()) && rest[word.len()..].trim_start().starts_with('(')
}

/// Whether the quote at the beginning of `rest` opens an `E'…'`, in which a backslash escapes.
fn escapes(whole: &str, rest: &str) -> bool {
    let before = &whole[..whole.len() - rest.len()];
    let mut last = before.chars().rev();
    matches!(last.next(), Some('e' | 'E')) && !last.next().is_some_and(is_word)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$' || !character.is_ascii()
}

fn quoted(text: &str, quote: char, backslash: bool) -> Result<usize, FilterError> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if backslash && character == '\\' {
            characters.next();
        } else if character == quote {
            if characters.peek().is_some_and(|&(_, next)| next == quote) {
                characters.next();
            } else {
                return Ok(at + 1);
            }
        }
    }
    Err(FilterError("a quote is not closed"))
}

fn comment(text: &str) -> Result<usize, FilterError> {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Err(FilterError("a comment is not closed"))
}

/// `$tag$ … $tag$`; a dollar within a word or before a digit is nothing of the kind.
fn dollar_quoted(whole: &str, rest: &str) -> Result<usize, FilterError> {
    let before = &whole[..whole.len() - rest.len()];
    if before.chars().next_back().is_some_and(is_word) {
        return Ok(1);
    }
    let Some(end) = rest[1..].find('$').map(|at| at + 2) else {
        return Err(FilterError("it holds a parameter"));
    };
    let tag = &rest[..end];
    let name = &tag[1..tag.len() - 1];
    if name.chars().next().is_some_and(|first| first.is_ascii_digit())
        || !name
            .chars()
            .all(|character| is_word(character) && character != '$')
    {
        return Err(FilterError("it holds a parameter"));
    }
    rest[end..]
        .find(tag)
        .map(|at| end + at + tag.len())
        .ok_or(FilterError("a quote is not closed"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a = 1 AND (b IN (1, 2))")]
    #[case("note = ') OR ('")]
    #[case("note = E'it\\'s )'")]
    #[case("note = 'a\\' AND (true)")]
    #[case("\"odd ) name\" = 1")]
    #[case("note = $x$ ) ' $x$ AND note <> $$ ( $$")]
    #[case("a = 1 -- ) a comment (")]
    #[case("a = 1 /* ) /* nested ( */ */")]
    #[case("a$b = 1")]
    #[case("note = 'random()' OR random > 1 OR is_random(a)")]
    fn an_expression_passes(#[case] filter: &str) {
        assert_eq!(check_filter(filter), Ok(()));
    }

    #[rstest]
    #[case("")]
    #[case("a = 1) OR (b = 2")]
    #[case("a = 1 OR (b = 2")]
    #[case("a = 'x")]
    #[case("a = 1; DROP TABLE t")]
    #[case("a = 1 /* (")]
    #[case("a = $1")]
    #[case("a = $x$ ")]
    #[case("random() < 0.5")]
    #[case("a < pg_catalog.RANDOM ()")]
    fn what_reaches_further_does_not(#[case] filter: &str) {
        assert!(check_filter(filter).is_err());
    }
}
