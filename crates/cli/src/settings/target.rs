//! The table that an ALTER statement names, if it does.

/// Database and table of `ALTER TABLE [database.]table …`; neither if the text is only what follows that.
pub(super) fn of_alter(alter: &str) -> (Option<String>, Option<String>) {
    let mut rest = alter;
    if !keyword(&mut rest, "ALTER") {
        return (None, None);
    }
    for modifier in ["ONLINE", "IGNORE"] {
        keyword(&mut rest, modifier);
    }
    if !keyword(&mut rest, "TABLE") {
        return (None, None);
    }
    let before = rest;
    if !(keyword(&mut rest, "IF") && keyword(&mut rest, "EXISTS")) {
        rest = before;
    }
    let Some(first) = identifier(&mut rest) else {
        return (None, None);
    };
    let mut after_dot = rest.trim_start();
    if let Some(following) = after_dot.strip_prefix('.') {
        after_dot = following.trim_start();
        if let Some(table) = identifier(&mut after_dot) {
            return (Some(first), Some(table));
        }
    }
    (None, Some(first))
}

/// Takes `word` off the front, in any case, if it stands there as a whole word.
fn keyword(rest: &mut &str, word: &str) -> bool {
    let trimmed = rest.trim_start();
    let Some((head, tail)) = trimmed.split_at_checked(word.len()) else {
        return false;
    };
    let whole = tail
        .chars()
        .next()
        .is_none_or(|next| next.is_whitespace() || next == '`');
    if whole && head.eq_ignore_ascii_case(word) {
        *rest = tail;
        return true;
    }
    false
}

/// Takes a name off the front, in backticks or bare.
fn identifier(rest: &mut &str) -> Option<String> {
    let trimmed = rest.trim_start();
    let Some(quoted) = trimmed.strip_prefix('`') else {
        let end = trimmed.find(|next: char| next.is_whitespace() || matches!(next, '.' | '`' | ',' | '('));
        let (name, tail) = trimmed.split_at(end.unwrap_or(trimmed.len()));
        *rest = tail;
        return (!name.is_empty()).then(|| name.to_owned());
    };
    let mut name = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '`' {
            name.push(character);
        } else if characters.next_if(|(_, next)| *next == '`').is_some() {
            name.push('`');
        } else {
            *rest = quoted.get(at + 1..).unwrap_or_default();
            return (!name.is_empty()).then_some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ADD COLUMN x INT", None, None)]
    #[case("ALTER TABLE t ADD COLUMN x INT", None, Some("t"))]
    #[case("  alter table\n`my db`.`t``x` engine=innodb", Some("my db"), Some("t`x"))]
    #[case("ALTER TABLE`t`ADD x INT", None, Some("t"))]
    #[case("ALTER TABLE shop . orders ADD x INT", Some("shop"), Some("orders"))]
    #[case(
        "ALTER ONLINE IGNORE TABLE IF EXISTS shop.orders ADD x INT",
        Some("shop"),
        Some("orders")
    )]
    #[case("ALTER TABLE if ADD x INT", None, Some("if"))]
    #[case("ALTER COLUMN c SET DEFAULT 5", None, None)]
    #[case("ALTER TABLE `open", None, None)]
    #[case("ALTERTABLE t", None, None)]
    fn the_target_is_found(#[case] alter: &str, #[case] database: Option<&str>, #[case] table: Option<&str>) {
        assert_eq!(
            of_alter(alter),
            (database.map(str::to_owned), table.map(str::to_owned))
        );
    }

    proptest! {
        #[test]
        fn any_name_in_backticks_is_read_back(name in "[^\\x00]{1,20}") {
            let alter = format!("ALTER TABLE {} ENGINE=InnoDB", changeling_core::ident::quote(&name));
            prop_assert_eq!(of_alter(&alter), (None, Some(name)));
        }
    }
}
