//! Conditions.

use proptest::prelude::*;
use rstest::rstest;

use super::super::tests::{TestRow, row, with_pair};
use super::*;

fn holds(text: &str, n1: Option<&TestRow>, n2: Option<&TestRow>) -> Result<bool, Undecided> {
    let condition = Condition::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    with_pair(n1, n2, |pair| condition.holds(pair))
}

#[rstest]
#[case("n1.amount = 10", true)]
#[case("n1.amount = 10.00", true)]
#[case("N1.amount < n2.amount", true)]
#[case("n1.amount >= n2.amount", false)]
#[case("n1.region = 'e''u'", false)]
#[case("n1.region != n2.region", false)]
#[case("n1.region IN ('us', 'eu')", true)]
#[case("NOT n1.region in ('us', 'eu')", false)]
#[case("n1.note is null AND n2.note IS NOT NULL", true)]
#[case("n1.note = null", true)]
#[case("n1.note = n2.note", false)]
#[case("n1.note != n2.note", true)]
#[case("null = null", true)]
#[case("n1.active = true", true)]
#[case("n1.active > n2.active", true)]
#[case("n1.id = 1 OR n1.id = 2 AND n1.id = 3", true)]
#[case("(n1.id = 1 OR n1.id = 2) AND n1.id = 3", false)]
#[case("not not n1.id = 1", true)]
#[case("n1.id = 1 OR n1.region > 5", true)]
#[case("n1.id = 2 AND n1.region > 5", false)]
#[case("n1.updated_at < '2026-07-01T12:00:00+02:00'", true)]
#[case("n1.updated_at = '2026-07-01'", false)]
#[case("-5 < n1.amount", true)]
#[case("n1.\"amount\" = 10", true)]
fn conditions_hold(#[case] text: &str, #[case] expected: bool) {
    let n1 = row("id=1 region=eu amount=10.0 note=NULL active=t updated_at=2026-07-01_09:59:59");
    let n2 = row("id=1 region=eu amount=9007199254740993 note=x active=f updated_at=2026-07-01_10:00:00");
    assert_eq!(holds(text, Some(&n1), Some(&n2)), Ok(expected));
}

#[test]
fn big_integers_are_compared_exactly() {
    let n1 = row("id=9007199254740993");
    assert_eq!(holds("n1.id = 9007199254740992", Some(&n1), None), Ok(false));
    assert_eq!(holds("n1.id > 9007199254740992", Some(&n1), None), Ok(true));
}

#[test]
fn not_a_number_is_the_last_number() {
    let n1 = row("amount=NaN id=Infinity");
    assert_eq!(
        holds("n1.amount > n1.id AND n1.id > 5", Some(&n1), None),
        Ok(true)
    );
}

#[test]
fn a_row_that_is_not_there_has_no_values() {
    let n1 = row("id=1 note=x");
    assert_eq!(
        holds("n2.id IS NULL AND n1.id IS NOT NULL", Some(&n1), None),
        Ok(true)
    );
}

#[rstest]
#[case("n1.note > 'a'", "was asked of NULL")]
#[case("n1.id = '1'", "cannot be compared")]
#[case("n1.region > 5", "cannot be compared")]
#[case("n1.id IN (2, 'x')", "cannot be compared")]
#[case("n1.nowhere = 1", "no column nowhere")]
fn some_questions_have_no_answer(#[case] text: &str, #[case] expected: &str) {
    let n1 = row("id=1 region=eu note=NULL");
    let error = holds(text, Some(&n1), None).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[rstest]
#[case("", 0, "the end where")]
#[case("n1.a", 4, "a comparison, IN or IS")]
#[case("n1.a = ", 7, "the end where")]
#[case("a = 1", 0, "n1.a or n2.a")]
#[case("n1.a NOT IN (1)", 5, "NOT x IN")]
#[case("n1.a IN ()", 9, "a value")]
#[case("n1.a IN (1 2)", 11, "`,` or `)`")]
#[case("n1.a = 'x", 7, "closing")]
#[case("(n1.a = 1", 9, "`)`")]
#[case("n1.a = 1 n1.b = 2", 9, "AND, OR or the end")]
#[case("n1.a <> 1", 5, "!=")]
#[case("n1.a = 1.2.3", 7, "not a number")]
#[case("n1.a = 0x1f", 7, "not a number")]
#[case("n1.a < null", 7, "NULL has no order")]
#[case("n1.a ~ 'x'", 5, "no meaning")]
#[case("n1 a", 3, "`.`")]
#[case("n1.a IS 5", 8, "NULL")]
fn errors_point_at_the_character(#[case] text: &str, #[case] at: usize, #[case] what: &str) {
    let error = Condition::read(text).unwrap_err();
    assert!(error.what.contains(what), "{error}");
    assert_eq!(error.at, at, "{error}");
}

/// A condition over `n1.id`, and what it should say of the id.
#[derive(Clone, Debug)]
enum Model {
    Less(i64),
    Equal(i64),
    In(Vec<i64>),
    Not(Box<Model>),
    And(Box<Model>, Box<Model>),
    Or(Box<Model>, Box<Model>),
}

impl Model {
    fn text(&self) -> String {
        match self {
            Self::Less(bound) => format!("n1.id < {bound}"),
            Self::Equal(value) => format!("{value} = n1.id"),
            Self::In(values) => {
                let values: Vec<_> = values.iter().map(i64::to_string).collect();
                format!("n1.id IN ({})", values.join(", "))
            }
            Self::Not(inner) => format!("NOT ({})", inner.text()),
            Self::And(left, right) => format!("({}) AND ({})", left.text(), right.text()),
            Self::Or(left, right) => format!("({}) or ({})", left.text(), right.text()),
        }
    }

    fn holds(&self, id: i64) -> bool {
        match self {
            Self::Less(bound) => id < *bound,
            Self::Equal(value) => id == *value,
            Self::In(values) => values.contains(&id),
            Self::Not(inner) => !inner.holds(id),
            Self::And(left, right) => left.holds(id) && right.holds(id),
            Self::Or(left, right) => left.holds(id) || right.holds(id),
        }
    }
}

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        (-20i64..20).prop_map(Model::Less),
        (-20i64..20).prop_map(Model::Equal),
        prop::collection::vec(-20i64..20, 1..4).prop_map(Model::In),
    ];
    leaf.prop_recursive(5, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| Model::And(Box::new(l), Box::new(r))),
            (inner.clone(), inner).prop_map(|(l, r)| Model::Or(Box::new(l), Box::new(r))),
        ]
    })
}

proptest! {
    #[test]
    fn conditions_mean_what_they_say(model in model(), id in -25i64..25) {
        let n1 = row(&format!("id={id}"));
        prop_assert_eq!(holds(&model.text(), Some(&n1), None), Ok(model.holds(id)));
    }

    #[test]
    fn any_text_is_a_condition_or_an_error(text in "[ -~é]{0,80}") {
        if let Err(error) = Condition::read(&text) {
            prop_assert!(error.at <= text.chars().count());
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_a_crash(depth in 190usize..5000) {
        let text = format!("{}n1.id = 1{}", "(".repeat(depth), ")".repeat(depth));
        prop_assert_eq!(Condition::read(&text).is_ok(), depth < 200);
    }
}
