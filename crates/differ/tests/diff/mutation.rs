//! Whatever changes in one cell, of whatever type, is noticed.

use changeling_differ::model::Verdict;

use crate::world::{World, world_or_skip};

/// Type, two values of it that are not the same, as SQL.
const TYPES: &[(&str, &str, &str)] = &[
    ("smallint", "1", "2"),
    ("integer", "0", "-1"),
    // What typed hashes fold to one.
    ("bigint", "1", "4294967296"),
    ("bigint", "-1", "9223372036854775807"),
    ("numeric", "1.0", "1.00"),
    ("numeric(30,10)", "0.0000000001", "0.0000000002"),
    ("numeric", "'NaN'", "'Infinity'"),
    ("real", "1e-30", "1.0000001e-30"),
    ("double precision", "0.1", "0.10000000000000002"),
    ("double precision", "0", "'-0'"),
    ("money", "1.00", "1.01"),
    ("text", "''", "' '"),
    ("text", "'a'", "'A'"),
    ("text", "E'a\\u0301'", "E'\\u00e1'"),
    ("varchar(5)", "'a'", "'a '"),
    ("char(3)", "'a'", "'b'"),
    ("name", "'a'", "'b'"),
    ("\"char\"", "'a'", "'b'"),
    ("bytea", "'\\x'", "'\\x00'"),
    (
        "timestamp",
        "'2000-01-01 00:00:00.000001'",
        "'2000-01-01 01:11:34.967296'",
    ),
    (
        "timestamptz",
        "'2000-01-01 00:00:00+00'",
        "'2000-01-01 00:00:00.000001+00'",
    ),
    ("timestamp", "'infinity'", "'-infinity'"),
    ("date", "'2000-01-01'", "'2000-01-01 BC'"),
    ("time", "'00:00'", "'24:00'"),
    ("timetz", "'12:00+00'", "'13:00+01'"),
    ("interval", "'1 month'", "'30 days'"),
    ("boolean", "true", "false"),
    (
        "uuid",
        "'00000000-0000-0000-0000-000000000000'",
        "'00000000-0000-0000-0000-000000000001'",
    ),
    ("json", "'{\"a\": 1}'", "'{\"a\":1}'"),
    ("jsonb", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'"),
    ("jsonb", "'null'", "'\"null\"'"),
    ("jsonpath", "'$.a'", "'$.b'"),
    ("xml", "'<a/>'", "'<a></a>'"),
    ("point", "'(1,2)'", "'(2,1)'"),
    ("line", "'{1,2,3}'", "'{1,2,4}'"),
    ("lseg", "'[(0,0),(1,1)]'", "'[(1,1),(0,0)]'"),
    ("box", "'(1,1),(0,0)'", "'(1,2),(0,0)'"),
    ("path", "'[(0,0),(1,1)]'", "'((0,0),(1,1))'"),
    ("polygon", "'((0,0),(1,1))'", "'((1,1),(0,0))'"),
    ("circle", "'<(0,0),1>'", "'<(0,0),2>'"),
    ("inet", "'1.2.3.4'", "'1.2.3.4/31'"),
    ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    (
        "macaddr8",
        "'08:00:2b:01:02:03:04:05'",
        "'08:00:2b:01:02:03:04:06'",
    ),
    ("bit(3)", "B'101'", "B'100'"),
    ("varbit", "B'1'", "B'01'"),
    ("tsvector", "'a:1'", "'a:2'"),
    ("tsquery", "'a & b'", "'a | b'"),
    ("pg_lsn", "'0/1'", "'0/2'"),
    ("oid", "1", "4294967295"),
    ("regtype", "'int4'", "'int8'"),
    ("int4range", "'[1,5)'", "'[1,6)'"),
    ("numrange", "'[1,2]'", "'[1,2)'"),
    ("tstzrange", "'empty'", "'(,)'"),
    ("int4multirange", "'{[1,2),[3,4)}'", "'{[1,4)}'"),
    ("bigint[]", "'{1}'", "'{4294967296}'"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("text[]", "'{a,b}'", "'{{a,b}}'"),
    ("numeric[]", "'{1.0}'", "'{1.00}'"),
    ("int[]", "'[0:1]={1,2}'", "'{1,2}'"),
    ("mood", "'sad'", "'happy'"),
    ("amount", "1", "2"),
    ("pair", "ROW(1, NULL)", "ROW(1, '')"),
    ("pair[]", "ARRAY[ROW(1, 'a')::pair]", "ARRAY[ROW(1, 'b')::pair]"),
    ("textrange", "'[a,b)'", "'[a,c)'"),
];

async fn types(world: &World) {
    world
        .all(
            "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN amount AS bigint CHECK (VALUE > 0); \
             CREATE TYPE pair AS (a int, b text); CREATE TYPE textrange AS RANGE (subtype = text)",
        )
        .await;
}

/// For each type a table in which every row is changed in another way; the last is not.
#[tokio::test(flavor = "multi_thread")]
async fn every_single_cell_change_of_every_type_is_found() {
    let world = world_or_skip!(2).with_ranges(3, 1);
    types(&world).await;
    for (kind, one, other) in TYPES {
        world
            .all(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {kind}); \
                 INSERT INTO t VALUES (1, {one}), (2, {one}), (3, {other}), (4, NULL), (5, {one}), (6, {other}), (7, {one}), \
                 (9, {one})"
            ))
            .await;
        let outcome = world.diff().await;
        assert_eq!(
            outcome.summary.verdict,
            Verdict::Match,
            "{kind}: {:?}",
            outcome.summary
        );
        let swapped = format!("CASE id WHEN 5 THEN {other}::{kind} ELSE {one}::{kind} END");
        for change in [
            format!("UPDATE t SET v = {other} WHERE id = 2"),
            "UPDATE t SET v = NULL WHERE id = 1".into(),
            format!("UPDATE t SET v = {one} WHERE id = 4"),
            "DELETE FROM t WHERE id = 3".into(),
            format!("UPDATE t SET v = {swapped} WHERE id IN (5, 6)"),
            format!("INSERT INTO t VALUES (8, {one})"),
        ] {
            world.on(2, &change).await;
        }
        let outcome = world.diff().await;
        let keys: Vec<&str> = outcome
            .findings
            .iter()
            .map(|finding| &*finding.difference().key.0[0])
            .collect();
        assert_eq!(
            keys,
            ["1", "2", "3", "4", "5", "6", "8"],
            "{kind}: {:?}",
            outcome.lines()
        );
        assert_eq!(outcome.summary.confirmed, 7, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_null_empty_and_texts_moved_across_a_column_border_differ() {
    let world = world_or_skip!(2);
    world
        .all("CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text)")
        .await;
    world.on(1, "INSERT INTO t VALUES (1, 'a|b', 'c', NULL), (2, '', NULL, ''), (3, 'ab', 'c', 'N'), (4, NULL, 'x', NULL), (5, 'x', 'y', 'z')").await;
    world.on(2, "INSERT INTO t VALUES (1, 'a', 'b|c', NULL), (2, NULL, '', ''), (3, 'a', 'bc', 'N'), (4, 'x', NULL, NULL), (5, 'x', 'y', 'z')").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.confirmed, 4, "{:?}", outcome.lines());
}

/// Columns that are never NULL go into the hash as numbers, in halves where they have more than 32 bits.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_hashed_as_such_differ_in_every_bit() {
    let world = world_or_skip!(2);
    world
        .all(
            "CREATE TABLE t (id bigint PRIMARY KEY, a smallint NOT NULL, b int NOT NULL, c bigint NOT NULL, d bigint NOT NULL, \
             e text); \
             INSERT INTO t SELECT i * 4294967297, i % 7, i, i * 4294967296, i, 'v' FROM generate_series(1, 400) AS i",
        )
        .await;
    assert_eq!(world.diff().await.summary.verdict, Verdict::Match);
    // Each row in another way: one bit of `c` or `d`, halves exchanged, neighbours exchanged, values of two rows.
    let bits: Vec<String> = (0..63)
        .flat_map(|bit| {
            let (c, d) = (bit + 1, bit + 101);
            [
                format!("UPDATE t SET c = c # (1::bigint << {bit}) WHERE b = {c}"),
                format!("UPDATE t SET d = d # (1::bigint << {bit}) WHERE b = {d}"),
            ]
        })
        .collect();
    world.on(2, &bits.join(";")).await;
    world
        .on(
            2,
            "UPDATE t SET c = b, d = c WHERE b BETWEEN 201 AND 210; \
             UPDATE t SET a = -a - 1 WHERE b BETWEEN 211 AND 220; \
             UPDATE t SET c = 632 * 4294967296 - c, d = 632 - d WHERE b BETWEEN 311 AND 315",
        )
        .await;
    let outcome = world.diff().await;
    assert_eq!(
        outcome.summary.confirmed,
        126 + 10 + 10 + 5,
        "{:?}",
        outcome.summary
    );
}

/// A NULL in a column that may hold none: a constraint that was added NOT VALID (from version 18) lets old ones be, and
/// so does the catalog where somebody has had a hand in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_null_where_the_catalog_promises_none_hides_nothing() {
    let world = world_or_skip!(2);
    world
        .all(
            "CREATE TABLE t (id int PRIMARY KEY, a int, b text); \
             INSERT INTO t VALUES (1, NULL, 'x'), (2, NULL, 'y'), (3, 0, 'z'), (4, NULL, 'w'); \
             UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 't'::regclass AND attname = 'a'",
        )
        .await;
    assert_eq!(world.diff().await.summary.verdict, Verdict::Match);
    world
        .on(
            2,
            "UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 't'::regclass AND attname = 'a'",
        )
        .await;
    world
        .on(2, "UPDATE t SET b = 'other' WHERE id = 1; UPDATE t SET a = NULL WHERE id = 3; UPDATE t SET a = 0 WHERE id = 4")
        .await;
    world
        .on(
            2,
            "UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 't'::regclass AND attname = 'a'",
        )
        .await;
    let outcome = world.diff().await;
    assert_eq!(outcome.confirmed_keys(), ["1", "3", "4"], "{:?}", outcome.lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_nullable_columns_than_a_word_has_bits() {
    let world = world_or_skip!(2);
    let columns: Vec<String> = (0..130).map(|i| format!("c{i} text")).collect();
    world
        .all(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .await;
    world
        .all("INSERT INTO t (id) SELECT generate_series(1, 130)")
        .await;
    assert_eq!(world.diff().await.summary.verdict, Verdict::Match);
    let changes: Vec<String> = (0..130)
        .map(|i| format!("UPDATE t SET c{i} = '' WHERE id = {}", i + 1))
        .collect();
    world.on(2, &changes.join(";")).await;
    assert_eq!(world.diff().await.summary.confirmed, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_what_the_databases_are_set_to_does_not_matter() {
    let world = world_or_skip!(2);
    world
        .all("CREATE TABLE t (id int PRIMARY KEY, a timestamptz, b interval, c float8, d bytea, e date, f money); \
              INSERT INTO t VALUES (1, '2026-03-04 05:06:07.8+00', '1 day 02:03', 0.1, '\\x00ff', '2026-01-02', 5)")
        .await;
    for setting in [
        "TimeZone = 'Asia/Kolkata'",
        "DateStyle = 'German, DMY'",
        "IntervalStyle = 'iso_8601'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
        "default_transaction_isolation = 'serializable'",
        "search_path = 'pg_temp'",
    ] {
        world
            .on(2, &format!("ALTER DATABASE {} SET {setting}", world.databases[1]))
            .await;
    }
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Match);
    assert_eq!(outcome.state.found.settled, 0, "digests were equal at once");
}
