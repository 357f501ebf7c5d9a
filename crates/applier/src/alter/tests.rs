use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn actions(text: &str) -> Vec<Action> {
    Alter::parse(text).expect("valid").actions().cloned().collect()
}

fn add(name: &str) -> Action {
    Action::AddColumn { name: name.into() }
}

fn dropped(name: &str) -> Action {
    Action::DropColumn { name: name.into() }
}

fn renamed(from: &str, to: &str) -> Action {
    Action::RenameColumn {
        from: from.into(),
        to: to.into(),
    }
}

#[rstest]
#[case("ALTER TABLE t ADD a int", None, Some("t"), "ADD a int")]
#[case("alter table `my db`.`t``x`  drop a ;", Some("my db"), Some("t`x"), "drop a")]
#[case(
    "ALTER ONLINE TABLE IF EXISTS d.t WAIT 5 ADD a int",
    Some("d"),
    Some("t"),
    "ADD a int"
)]
#[case("ALTER TABLE t NOWAIT ADD a int", None, Some("t"), "ADD a int")]
#[case(
    "/* hi */ ALTER /* x */ TABLE\n\"d\" . \"t\"\n ADD a int -- end",
    Some("d"),
    Some("t"),
    "ADD a int"
)]
#[case("ALTER COLUMN a SET DEFAULT 1", None, None, "ALTER COLUMN a SET DEFAULT 1")]
#[case("ALTER a DROP DEFAULT", None, None, "ALTER a DROP DEFAULT")]
#[case("ALTER INDEX i INVISIBLE", None, None, "ALTER INDEX i INVISIBLE")]
#[case("  add column a int  ", None, None, "add column a int")]
#[case(
    "/*!80023 add a int invisible */;",
    None,
    None,
    "/*!80023 add a int invisible */"
)]
fn heads(#[case] text: &str, #[case] schema: Option<&str>, #[case] table: Option<&str>, #[case] body: &str) {
    let alter = Alter::parse(text).expect("valid");
    assert_eq!((alter.schema.as_deref(), alter.table.as_deref()), (schema, table));
    assert_eq!(alter.body, body);
}

#[rstest]
#[case("", AlterError::Empty)]
#[case(" -- nothing", AlterError::Empty)]
#[case("ALTER TABLE t", AlterError::Empty)]
#[case("ALTER TABLE", AlterError::NoTable)]
#[case("ALTER IGNORE TABLE t ADD UNIQUE (a)", AlterError::Ignore)]
#[case("add a int; drop table t", AlterError::SeveralStatements)]
#[case("add a int default 'x", AlterError::Unterminated { what: "quote", at: 18 })]
#[case("add a int)", AlterError::Unbalanced { at: 9 })]
fn refused(#[case] text: &str, #[case] error: AlterError) {
    assert_eq!(Alter::parse(text), Err(error));
}

#[rstest]
#[case("add a int", vec![add("a")])]
#[case("add column if not exists a int, add `b,c` enum('x,y','z)')", vec![add("a"), add("b,c")])]
#[case("add column (a int, b decimal(3,2), key k (a, b))", vec![add("a"), add("b")])]
#[case("add (a int default (f(1,2)))", vec![add("a")])]
#[case("add column `key` int, add vector vector(3)", vec![add("key"), add("vector")])]
#[case("add vector index vi (v), add fulltext (a), add unique key (a), add primary key (a), add check (a > 1)", vec![])]
#[case("add constraint c check (a in (1,2)), add constraint u unique (a)", vec![])]
#[case("add constraint f foreign key (a) references p(id)", vec![Action::AddForeignKey])]
#[case("add foreign key (a) references p(id) on delete cascade", vec![Action::AddForeignKey])]
#[case("add a int references p(id)", vec![add("a"), Action::AddForeignKey])]
#[case("drop a, drop column b, drop column if exists `c` cascade", vec![dropped("a"), dropped("b"), dropped("c")])]
#[case("drop key k, drop index i, drop primary key", vec![])]
#[case("drop `key`", vec![dropped("key")])]
#[case("drop foreign key f, drop constraint c, drop check k", vec![
    Action::DropForeignKey { name: "f".into() }, Action::DropConstraint { name: "c".into() },
    Action::NamedCheck { name: "k".into() }])]
#[case("change a b int", vec![renamed("a", "b")])]
#[case("change column if exists `a` `A` int first", vec![renamed("a", "A")])]
#[case("change t.a b int not null comment 'change x y'", vec![renamed("a", "b")])]
#[case("rename column a to b, rename column b to a", vec![renamed("a", "b"), renamed("b", "a")])]
#[case("rename to x", vec![Action::RenameTable { to: "x".into() }])]
#[case("rename as d.x", vec![Action::RenameTable { to: "x".into() }])]
#[case("rename = x", vec![Action::RenameTable { to: "x".into() }])]
#[case("rename x", vec![Action::RenameTable { to: "x".into() }])]
#[case("rename index a to b, rename key c to d", vec![])]
#[case("comment='rename to x, drop y'", vec![])]
#[case("auto_increment=7", vec![Action::AutoIncrement { value: 7 }])]
#[case("engine innodb auto_increment 7 row_format=dynamic", vec![
    Action::Engine { name: "innodb".into() }, Action::AutoIncrement { value: 7 }])]
#[case("add a int auto_increment", vec![add("a")])]
#[case("add a int, algorithm=inplace, lock none", vec![add("a"), Action::Execution, Action::Execution])]
#[case("partition by range (a) (partition p0 values less than (1), partition p1 values less than (2))",
    vec![Action::Partitions(PartitionAction::Layout)])]
#[case("add a int partition by hash(a) partitions 4", vec![add("a"), Action::Partitions(PartitionAction::Layout)])]
#[case("remove partitioning", vec![Action::Partitions(PartitionAction::Layout)])]
#[case("reorganize partition p0, p1 into (partition p values less than (3))",
    vec![Action::Partitions(PartitionAction::Layout)])]
#[case("drop partition p0, p1", vec![Action::Partitions(PartitionAction::Rows { verb: "DROP".into() })])]
#[case("exchange partition p0 with table x", vec![Action::Partitions(PartitionAction::Rows { verb: "EXCHANGE".into() })])]
#[case("convert to character set utf8mb4 collate utf8mb4_bin", vec![])]
#[case("default character set = utf8mb4 collate = utf8mb4_bin", vec![])]
#[case("discard tablespace", vec![Action::Tablespace])]
#[case("add system versioning", vec![Action::Versioning])]
#[case("drop system versioning", vec![Action::Versioning])]
#[case("order by a, b desc", vec![Action::OrderBy])]
#[case("modify a bigint, alter column b set default 1, force, enable keys", vec![])]
#[case("/*!80000 add a int */", vec![add("a")])]
#[case("comment = 'x' engine='MyISAM'", vec![Action::Engine { name: "MyISAM".into() }])]
fn clauses(#[case] text: &str, #[case] expected: Vec<Action>) {
    assert_eq!(actions(text), expected);
}

#[rstest]
#[case("add a int, algorithm=inplace, lock=none", Some("add a int"))]
#[case("algorithm=inplace", Some(""))]
#[case("add a int /* keep */, drop b", Some("add a int /* keep */, drop b"))]
#[case("/*!80000 add a int, */ algorithm=inplace", None)]
fn stripping(#[case] text: &str, #[case] expected: Option<&str>) {
    let alter = Alter::parse(text).expect("valid");
    assert_eq!(
        alter
            .body_without(|action| *action == Action::Execution)
            .as_deref(),
        expected
    );
}

#[test]
fn checks_are_found_and_renamed() {
    let definition = "CREATE TABLE `t` (\n  `a` int DEFAULT NULL,\n  KEY `k` (`a`) /*!80000 INVISIBLE */,\n  \
        CONSTRAINT `one` CHECK ((`a` > 1)),\n  CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `p` (`a`),\n  \
        CONSTRAINT `two` CHECK ((`a` in (1,2))) /*!80016 NOT ENFORCED */\n) ENGINE=InnoDB /*!50100 PARTITION BY (x) */";
    let items = table_items(definition);
    assert_eq!(items.len(), 5);
    assert_eq!(items.get(1).copied(), Some("KEY `k` (`a`) /*!80000 INVISIBLE */"));
    let names: Vec<String> = named_checks(definition)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["one", "two"]);
    let body = with_constraint_names(
        "drop check ONE, alter check `two` not enforced, drop constraint f, comment 'drop check one'",
        |name| (!name.eq_ignore_ascii_case("f")).then(|| format!("g_{}", name.to_lowercase())),
    );
    assert_eq!(
        body,
        "drop check `g_one`, alter check `g_two` not enforced, drop constraint f, comment 'drop check one'"
    );
}

#[rstest]
#[case(
    "CREATE DEFINER=`a`@`b` TRIGGER t BEFORE INSERT ON x FOR EACH ROW SET NEW.a = 1",
    Some("SET NEW.a = 1")
)]
#[case(
    "CREATE TRIGGER `for each row` AFTER UPDATE ON x FOR EACH ROW FOLLOWS `a`.b BEGIN /* ; */ END ",
    Some("BEGIN /* ; */ END")
)]
#[case("CREATE TRIGGER t", None)]
fn trigger_bodies(#[case] text: &str, #[case] body: Option<&str>) {
    assert_eq!(trigger_body(text, true).as_deref(), body);
}

#[test]
fn a_rename_that_only_changes_letter_case_is_none() {
    let alter = Alter::parse("change a A int, change b c int").expect("valid");
    assert_eq!(alter.renames(), [("b", "c")]);
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC*") {
        let _ = Alter::parse(&text);
    }

    #[test]
    fn never_panics_on_shuffled_sql(words in proptest::collection::vec(
        proptest::sample::select(vec!["ALTER", "TABLE", "ADD", "COLUMN", "DROP", "(", ")", ",", "a", "`b`", "'c'",
            "RENAME", "TO", "CHANGE", "IF", "EXISTS", "NOT", "=", ".", "ENGINE", "/*!", "*/", "PARTITION", "BY",
            "KEY", "FOREIGN", "AUTO_INCREMENT", "7", ";", "-- \n", "WAIT"]), 0..14)) {
        let _ = Alter::parse(&words.join(" "));
    }

    #[test]
    fn any_name_survives_backticks(name in "[^`\\x00]{1,20}") {
        let alter = Alter::parse(&format!("drop column `{name}`, add `{name}` int")).expect("valid");
        let found: Vec<Action> = alter.actions().cloned().collect();
        prop_assert_eq!(found, vec![dropped(&name), add(&name)]);
    }

    #[test]
    fn a_text_hides_its_content(text in "[^'\\\\]{0,30}") {
        let alter = Alter::parse(&format!("modify a int comment '{text}', drop b")).expect("valid");
        let found: Vec<Action> = alter.actions().cloned().collect();
        prop_assert_eq!(found, vec![dropped("b")]);
    }
}
