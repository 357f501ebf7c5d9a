//! The SQL that is sent, letter by letter.

use changeling_applier::plan::ConflictPolicy;
use changeling_core::ident::TableName;
use changeling_core::key::{Bound, Direction, Key, KeyRange};
use changeling_core::value::Cell;

use crate::plan::{INTEGER, number, plan, statements, text};

/// Names that break whatever is not quoted: a backtick, a space, a comment's end, a keyword.
const SCHEMA: &str = "my`shop";
const TABLE: &str = "order */ lines";

fn named(name: &str, id: i64) -> Key {
    Key::new(vec![Cell::Text(name.as_bytes().to_vec().into()), Cell::Int(id)])
}

#[test]
fn one_integer() {
    let sql = statements(plan(
        "shop",
        "orders",
        &[("id", "id", INTEGER)],
        ConflictPolicy::Replace,
    ));
    let range = KeyRange {
        from: Bound::Excluded(number(10)),
        to: Bound::Included(number(20)),
    };
    let keys = [number(3), number(-5)];
    insta::assert_snapshot!(
        [
            sql.copy_range(&range).unwrap(),
            sql.missing_in_range(&range, 200).unwrap(),
            sql.replace_keys(&keys).unwrap(),
            sql.insert_keys(&keys).unwrap(),
            sql.delete_keys(&keys).unwrap(),
            sql.nth_key(&range, 99).unwrap(),
            sql.end_key(Direction::Backward),
        ]
        .join("\n\n")
    );
}

#[test]
fn names_that_need_quotes_and_a_composite_key_that_is_renamed() {
    let key = [("na`me", "new name", text()), ("select", "select", INTEGER)];
    let sql = statements(plan(SCHEMA, TABLE, &key, ConflictPolicy::Insert));
    let range = KeyRange {
        from: Bound::Open,
        to: Bound::Included(named("O'Brien", 7)),
    };
    let keys = [named("x", 1), named("ü", 2)];
    insta::assert_snapshot!(
        [
            sql.copy_range(&range).unwrap(),
            sql.missing_in_range(&range, 200).unwrap(),
            sql.insert_keys(&keys).unwrap(),
            sql.delete_keys(&keys).unwrap(),
            sql.nth_key(&range, 0).unwrap(),
            sql.end_key(Direction::Forward),
        ]
        .join("\n\n")
    );
}

/// The comment in each statement names the table, and cannot be ended by the name.
#[test]
fn a_name_does_not_end_the_comment() {
    let sql = statements(plan(
        SCHEMA,
        TABLE,
        &[("id", "id", INTEGER)],
        ConflictPolicy::Replace,
    ));
    let replace = sql.replace_keys(&[number(1)]).unwrap();
    assert_eq!(
        replace.find("*/"),
        replace.find(" INTO ").map(|at| at - 2),
        "{replace}"
    );
}

/// A cut-over on MariaDB gives the ghost another name: every clone of the statements writes there then.
#[test]
fn a_renamed_ghost_is_written_under_its_new_name() {
    let sql = statements(plan(
        "shop",
        "orders",
        &[("id", "id", INTEGER)],
        ConflictPolicy::Replace,
    ));
    let lane = sql.clone();
    sql.ghost_renamed(TableName::new("shop", "orders_gho"));
    let (replace, delete) = (
        lane.replace_keys(&[number(1)]).unwrap(),
        lane.delete_keys(&[number(1)]).unwrap(),
    );
    for text in [&replace, &delete] {
        assert!(
            text.contains("`shop`.`orders_gho`") && !text.contains("`_orders_gho`"),
            "{text}"
        );
    }
}

/// No keys, no rows; and what cannot be a key is refused.
#[test]
fn no_key_and_no_such_key() {
    let sql = statements(plan(
        "shop",
        "orders",
        &[("id", "id", INTEGER)],
        ConflictPolicy::Replace,
    ));
    assert!(sql.delete_keys(&[]).unwrap().ends_with("WHERE FALSE"));
    for cell in [Cell::Null, Cell::Absent] {
        let error = sql.delete_keys(&[Key::new(vec![cell])]).unwrap_err();
        assert_eq!(error.column, "id");
    }
}
