//! The language of plans.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// A row as tests write it: `id=1 name=ann note=NULL`; numbers are numbers.
pub(super) struct TestRow(BTreeMap<String, Value>);

impl PlanRow for TestRow {
    fn value(&self, column: &str) -> Option<Value> {
        self.0.get(column).cloned()
    }
}

pub(super) fn row(text: &str) -> TestRow {
    let columns = text.split_whitespace().map(|word| {
        let (name, value) = word.split_once('=').unwrap();
        let kind = match name {
            "region" | "email" | "note" | "code" => PlanKind::Text,
            "updated_at" | "commit_ts" => PlanKind::Instant,
            "active" => PlanKind::Bool,
            _ => PlanKind::Number,
        };
        let value = match value {
            "NULL" => Value::Null,
            text => Value::of_text(&text.replace('_', " "), kind),
        };
        (name.to_owned(), value)
    });
    TestRow(columns.collect())
}

pub(super) fn with_pair<T>(
    n1: Option<&TestRow>,
    n2: Option<&TestRow>,
    ask: impl FnOnce(&PlanPair<'_>) -> T,
) -> T {
    let names = n1.or(n2).unwrap().0.keys().cloned().collect::<Vec<_>>();
    let changed: Vec<String> = match (n1, n2) {
        (Some(n1), Some(n2)) => names
            .iter()
            .filter(|name| n1.0.get(*name) != n2.0.get(*name))
            .cloned()
            .collect(),
        _ => Vec::new(),
    };
    ask(&PlanPair {
        key: &["id".to_owned()],
        columns: &names,
        changed: &changed,
        n1: n1.map(|row| row as &dyn PlanRow),
        n2: n2.map(|row| row as &dyn PlanRow),
    })
}

const EXAMPLE: &str = r#"
version: 1
default_action: {type: skip}
tables:
  public.customers:
    default_action: {type: keep_n1}
    rules:
      - {name: eu, diff_type: [row_mismatch], when: "n1.region = 'eu' AND n2.amount > 10", action: {type: keep_n2}}
      - {name: low, pk_in: [{range: {from: 1, to: 999}}, {equals: [5000, 5001]}], action: {type: apply_from, from: n1, mode: replace}}
      - {name: contact, columns_changed: [email, phone], action: {type: custom, helpers: {pick_freshest: {key: updated_at, tie: n1}}}}
      - {diff_type: missing_on_n1, action: {type: delete}}
    row_overrides:
      - {pk: {id: 42}, action: {type: custom, custom_row: {id: 42, email: "{{n1.email}}"}, allow_stale_repairs: false}}
"#;

fn decide(plan: &Plan, n1: Option<&str>, n2: Option<&str>) -> Result<String, NoDecision> {
    let decisions = plan.for_table("public.customers")?;
    let (n1, n2) = (n1.map(row), n2.map(row));
    with_pair(n1.as_ref(), n2.as_ref(), |pair| {
        decisions.decide(pair).map(|decided| decided.by.to_owned())
    })
}

#[rstest]
#[case::override_first("id=42 region=eu amount=1", "id=42 region=eu amount=99", "row_override_0")]
#[case::first_rule("id=7 region=eu amount=1", "id=7 region=eu amount=10.5", "eu")]
#[case::second_rule("id=7 region=us amount=1", "id=7 region=us amount=99", "low")]
#[case::upper_end_included("id=999 region=us amount=1", "id=999 region=us amount=2", "low")]
#[case::equals("id=5001 region=us amount=1", "id=5001 region=us amount=2", "low")]
#[case::columns(
    "id=2000 region=us amount=1 email=a",
    "id=2000 region=us amount=1 email=b",
    "contact"
)]
#[case::default(
    "id=2000 region=us amount=1 email=a",
    "id=2000 region=us amount=2 email=a",
    "table_default"
)]
fn the_most_particular_word_wins(#[case] n1: &str, #[case] n2: &str, #[case] by: &str) {
    let plan = Plan::read(EXAMPLE).unwrap();
    assert_eq!(decide(&plan, Some(n1), Some(n2)).unwrap(), by);
}

#[test]
fn a_rule_without_name_is_called_by_its_number() {
    let plan = Plan::read(EXAMPLE).unwrap();
    assert_eq!(
        decide(&plan, None, Some("id=2000 region=us amount=1")).unwrap(),
        "rule_3"
    );
}

#[test]
fn an_action_that_has_nothing_to_work_with_is_an_error_not_a_guess() {
    let plan = Plan::read("tables: {public.customers: {default_action: {type: keep_n1}}}").unwrap();
    let refused = decide(&plan, None, Some("id=1 region=eu amount=1")).unwrap_err();
    assert!(
        refused.to_string().contains("keep_n1 needs a row on n1"),
        "{refused}"
    );
    let silent = Plan::read("tables: {public.customers: {}}").unwrap();
    assert_eq!(decide(&silent, Some("id=1"), None), Err(NoDecision::Default));
    assert!(matches!(
        plan.for_table("public.orders"),
        Err(NoDecision::Table { .. })
    ));
}

#[test]
fn a_plan_in_json_is_a_plan() {
    let json = r#"{"version": 1, "tables": {"public.customers": {"rules": [
        {"name": "x", "diff_type": ["row_mismatch"], "action": {"type": "keep_n2", "allow_stale_repairs": false}}]}}}"#;
    let plan = Plan::read(json).unwrap();
    assert_eq!(
        decide(&plan, Some("id=1 amount=1"), Some("id=1 amount=2")).unwrap(),
        "x"
    );
}

#[rstest]
#[case::field("tables:\n  a.b:\n    rulez: []\n", 3, 5, "no field `rulez`")]
#[case::action("tables:\n  a.b:\n    default_action: {type: keep_n3}\n", 3, 28, "no action")]
#[case::version("version: 2\ntables: {}\n", 1, 10, "version 2")]
#[case::no_tables("version: 1\n", 1, 1, "needs `tables`")]
#[case::empty("", 1, 1, "empty")]
#[case::match_all(
    "tables:\n  a.b:\n    rules:\n    - action: {type: skip}\n",
    4,
    7,
    "match every row"
)]
#[case::twice("tables:\n  a.b: {}\n  a.b: {}\n", 3, 3, "second time")]
#[case::when(
    "tables:\n  a.b:\n    rules:\n    - when: \"n1.a = 1 and\"\n      action: {type: skip}\n",
    4,
    26,
    "the end where"
)]
#[case::plain_when(
    "tables:\n  a.b:\n    rules:\n    - when: n3.a = 1\n      action: {type: skip}\n",
    4,
    13,
    "n3"
)]
#[case::block_when(
    "tables:\n  a.b:\n    rules:\n    - when: |\n        n1.a ==\n      action: {type: skip}\n",
    5,
    9,
    "character 7"
)]
#[case::types(
    "tables:\n  a.b:\n    rules:\n    - {diff_type: [gone], action: {type: skip}}\n",
    4,
    20,
    "no diff_type"
)]
#[case::impossible(
    "tables:\n  a.b:\n    rules:\n    - {diff_type: missing_on_n2, action: {type: keep_n2}}\n",
    4,
    42,
    "keep_n2 needs a row"
)]
#[case::insert(
    "tables:\n  a.b:\n    rules:\n    - {diff_type: row_mismatch, action: {type: apply_from, from: n1, mode: insert}}\n",
    4,
    41,
    "mode insert"
)]
#[case::template(
    "tables:\n  a.b:\n    default_action: {type: custom, custom_row: {a: \"x {{n1.a}}\"}}\n",
    3,
    52,
    "whole value"
)]
#[case::custom(
    "tables:\n  a.b:\n    default_action: {type: custom}\n",
    3,
    21,
    "needs custom_row"
)]
#[case::yaml("tables: [\n", 2, 1, "")]
#[case::mode(
    "tables:\n  a.b:\n    default_action: {type: apply_from, from: n1, mode: merge}\n",
    3,
    56,
    "replace, upsert or insert"
)]
#[case::from(
    "tables:\n  a.b:\n    default_action: {type: apply_from}\n",
    3,
    21,
    "needs `from`"
)]
#[case::stray(
    "tables:\n  a.b:\n    default_action: {type: skip, from: n1}\n",
    3,
    34,
    "no field `from`"
)]
fn errors_name_their_place(
    #[case] text: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] what: &str,
) {
    let error = Plan::read(text).unwrap_err();
    assert!(error.what.contains(what), "{error}");
    assert_eq!((error.line, error.column), (line, column), "{error}");
}

#[test]
fn aliases_repeat_an_action_and_cannot_fill_the_memory() {
    let plan = "tables:\n  public.customers:\n    rules:\n    - {diff_type: row_mismatch, action: &a {type: skip}}\n    - {diff_type: missing_on_n1, action: *a}\n";
    assert_eq!(
        decide(&Plan::read(plan).unwrap(), None, Some("id=1")).unwrap(),
        "rule_1"
    );
    let mut bomb = String::from("notes: [&a0 [x, x, x, x, x, x, x, x, x, x]");
    for level in 1..12 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!(", &a{level} [{}]", vec![previous; 10].join(", ")));
    }
    bomb.push(']');
    assert!(Plan::read(&bomb).unwrap_err().what.contains("too large"));
}

fn resolve(action: &str, n1: Option<&str>, n2: Option<&str>) -> Result<Resolution, Unresolved> {
    let plan = Plan::read(&format!(
        "tables: {{public.customers: {{default_action: {action}}}}}"
    ))
    .unwrap();
    let decisions = plan.for_table("public.customers").unwrap();
    let (n1, n2) = (n1.map(row), n2.map(row));
    with_pair(n1.as_ref(), n2.as_ref(), |pair| {
        decisions.decide(pair).unwrap().action.resolve(pair)
    })
}

#[rstest]
#[case("{type: keep_n1}", Change::Leave, Change::Copy)]
#[case("{type: keep_n2}", Change::Copy, Change::Leave)]
#[case("{type: apply_from, from: n2, mode: upsert}", Change::Copy, Change::Leave)]
#[case("{type: skip}", Change::Leave, Change::Leave)]
#[case("{type: delete}", Change::Remove, Change::Remove)]
#[case("{type: bidirectional}", Change::Leave, Change::Leave)]
fn actions_on_rows_that_differ(#[case] action: &str, #[case] n1: Change, #[case] n2: Change) {
    let resolution = resolve(action, Some("id=1 amount=1"), Some("id=1 amount=2")).unwrap();
    assert_eq!(resolution, Resolution { n1, n2 });
}

#[rstest]
#[case("{type: keep_n1}", Change::Leave, Change::Copy)]
#[case("{type: apply_from, from: n1, mode: insert}", Change::Leave, Change::Copy)]
#[case("{type: delete}", Change::Remove, Change::Leave)]
#[case("{type: bidirectional}", Change::Leave, Change::Copy)]
fn actions_on_rows_that_are_missing(#[case] action: &str, #[case] n1: Change, #[case] n2: Change) {
    let resolution = resolve(action, Some("id=1 amount=1"), None).unwrap();
    assert_eq!(resolution, Resolution { n1, n2 });
}

fn custom(action: &str, n1: Option<&str>, n2: Option<&str>) -> Result<NewRow, Unresolved> {
    match resolve(action, n1, n2)? {
        Resolution {
            n1: Change::Put(row),
            n2: Change::Put(other),
        } => {
            assert_eq!(row, other);
            Ok(row)
        }
        other => panic!("{other:?}"),
    }
}

fn taken(place: Place, column: &str) -> (String, NewCell) {
    (column.to_owned(), NewCell::Column(place, column.to_owned()))
}

#[test]
fn a_custom_row_is_put_together() {
    let (n1, n2) = (
        Some("amount=1 email=a id=1 note=NULL"),
        Some("amount=2 email=b id=1 note=y"),
    );
    let row = custom(
        "{type: custom, custom_row: {amount: 7, email: '{{n2.email}}'}, helpers: {coalesce_priority: [n1, n2]}}",
        n1,
        n2,
    );
    assert_eq!(
        row.unwrap(),
        vec![
            ("amount".into(), NewCell::Text(Some("7".into()))),
            taken(Place::N2, "email"),
            taken(Place::N1, "id"),
            taken(Place::N2, "note"),
        ]
    );
    let open = custom("{type: custom, custom_row: {amount: 7}}", n1, n2);
    assert_eq!(open, Err(Unresolved::Open("email".into())));
    let moved = custom(
        "{type: custom, custom_row: {id: 2}, helpers: {coalesce_priority: [n1]}}",
        n1,
        n2,
    );
    assert_eq!(moved, Err(Unresolved::Key("id".into())));
    let absent = custom("{type: custom, custom_row: {note: '{{n2.note}}'}}", n1, None);
    assert_eq!(
        absent,
        Err(Unresolved::NoRow {
            place: "n2",
            column: "note".into()
        })
    );
    let null = custom(
        "{type: custom, custom_row: {note: null, amount: '', email: x}}",
        n1,
        n2,
    )
    .unwrap();
    assert_eq!(null[3].1, NewCell::Text(None));
    assert_eq!(null[0].1, NewCell::Text(Some(String::new())));
}

#[rstest]
// 10:30 at +02:00 is before 09:00 UTC, although its text is greater.
#[case("2026-07-01T10:30:00+02:00", "2026-07-01T09:00:00Z", Place::N2)]
#[case("2026-07-01_10:00:00.5", "2026-07-01_10:00:00", Place::N1)]
#[case("NULL", "2026-07-01_10:00:00", Place::N2)]
#[case("infinity", "2026-07-01_10:00:00", Place::N1)]
#[case("2026-07-01_10:00:00", "2026-07-01_10:00:00+00", Place::N2)]
fn the_freshest_row_is_picked_by_time_not_by_text(#[case] n1: &str, #[case] n2: &str, #[case] picked: Place) {
    let rows = (
        format!("email=a id=1 updated_at={n1}"),
        format!("email=b id=1 updated_at={n2}"),
    );
    let action = "{type: custom, helpers: {pick_freshest: {key: updated_at, tie: n2}}}";
    let row = custom(action, Some(&rows.0), Some(&rows.1)).unwrap();
    assert_eq!(row[0], taken(picked, "email"));
}

#[test]
fn equally_fresh_rows_need_a_tie() {
    let action = "{type: custom, helpers: {pick_freshest: {key: amount}}}";
    let refused = custom(
        action,
        Some("amount=1 email=a id=1"),
        Some("amount=1.0 email=b id=1"),
    );
    assert_eq!(refused, Err(Unresolved::Tie("amount".into())));
}

#[test]
fn a_plan_is_checked_against_the_table_before_anything_is_done() {
    let names = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let check = |rule: &str, key: &str| {
        let plan = Plan::read(&format!("tables: {{a.b: {{rules: [{rule}]}}}}")).unwrap();
        let decisions = plan.for_table("a.b").unwrap();
        decisions
            .check(&names(key), &names("id a b"))
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        check(
            "{when: n1.a = n2.b AND n1.commit_ts > n2.commit_ts, action: {type: skip}}",
            "id"
        ),
        Ok(())
    );
    assert!(
        check("{when: n1.c = 1, action: {type: skip}}", "id")
            .unwrap_err()
            .contains("column c")
    );
    assert!(
        check("{columns_changed: [c], action: {type: skip}}", "id")
            .unwrap_err()
            .contains("column c")
    );
    assert!(
        check(
            "{pk_in: [{range: {from: 1, to: 2}}], action: {type: skip}}",
            "id a"
        )
        .unwrap_err()
        .contains("one column")
    );
    assert!(
        check("{pk_in: [{equals: [[1, x]]}], action: {type: skip}}", "id")
            .unwrap_err()
            .contains("number of columns")
    );
    let custom = "{columns_changed: [a], action: {type: custom, custom_row: {c: 1}}}";
    assert!(check(custom, "id").unwrap_err().contains("column c"));
}

#[test]
fn composite_keys_are_compared_part_by_part() {
    let plan = Plan::read(
        "tables: {a.b: {rules: [{name: x, pk_in: [{equals: [['a|b', c]]}], action: {type: skip}}], default_action: {type: delete}}}",
    )
    .unwrap();
    let decisions = plan.for_table("a.b").unwrap();
    let decide = |code: &str, note: &str| {
        let row = row(&format!("code={code} note={note}"));
        let pair = PlanPair {
            key: &["code".to_owned(), "note".to_owned()],
            columns: &["code".to_owned(), "note".to_owned()],
            changed: &[],
            n1: Some(&row),
            n2: None,
        };
        decisions.decide(&pair).unwrap().by.to_owned()
    };
    assert_eq!(decide("a|b", "c"), "x");
    assert_eq!(decide("a", "b|c"), "table_default");
}

proptest! {
    /// Whatever is written, reading ends, and errors point into the text.
    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n]{0,200}") {
        if let Err(error) = Plan::read(&text) {
            prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1, "{error}");
        }
    }

    /// Key ranges include both ends, whatever the numbers are written like.
    #[test]
    fn ranges_include_their_ends(from in -1000i64..1000, length in 0i64..1000, key in -2000i64..2000) {
        let to = from + length;
        let plan = Plan::read(&format!(
            "tables: {{public.customers: {{default_action: {{type: delete}}, rules: [{{name: in, pk_in: [{{range: {{from: {from}, to: {to}}}}}], action: {{type: skip}}}}]}}}}"
        )).unwrap();
        let by = decide(&plan, Some(&format!("id={key}.0")), None).unwrap();
        prop_assert_eq!(by == "in", (from..=to).contains(&key));
    }
}
