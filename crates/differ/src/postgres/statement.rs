//! The statements that are run on a node, as text.
//!
//! Parameters are always texts, cast in the statement to what they are: the driver then needs no type of the user's.

use std::fmt::Write;

use crate::model::KeyIdentity;
use crate::range::{KeyRange, Partition};

use super::ident::{quote, quote_text};
use super::plan::{HashInput, PlannedColumn, RowHash, TablePlan, WalkOrder};

/// Columns chained in one expression. The server's parser and executor descend once for each, and its stack is
/// bounded; wider tables hash the hashes of several chains.
const CHAIN: usize = 100;

/// Distance between the first seeds of a wide table's chains: odd and without structure, so that no chain's seed is
/// another's hash by design.
const CHAIN_SEED_STEP: i64 = 0x1e37_79b9_7f4a_7c15;

/// Texts of a range's ends, in the order of the statement's parameters.
pub(super) fn range_parameters(range: &KeyRange) -> Vec<&str> {
    [&range.after, &range.to]
        .into_iter()
        .flatten()
        .flat_map(|key| key.0.iter().map(AsRef::as_ref))
        .collect()
}

/// What of a range decides about a statement's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RangeForm<'a> {
    partition: Option<&'a Partition>,
    after: bool,
    to: bool,
}

impl<'a> From<&'a KeyRange> for RangeForm<'a> {
    fn from(range: &'a KeyRange) -> Self {
        Self {
            partition: range.partition.as_ref(),
            after: range.after.is_some(),
            to: range.to.is_some(),
        }
    }
}

impl<'a> RangeForm<'a> {
    /// Both ends closed: for `--explain`.
    pub(super) fn closed(partition: Option<&'a Partition>) -> Self {
        Self {
            partition,
            after: true,
            to: true,
        }
    }
}

/// The hash of a number of 32 bits or fewer, with the hash of what comes before it as seed.
pub(super) fn int4_hash(value: &str, seed: &str) -> String {
    format!("pg_catalog.hashint4extended(({value})::int4, {seed})")
}

/// The same of 64 bits: both halves.
pub(super) fn int8_hash(value: &str, seed: &str) -> String {
    // Shifted up and down again, the lower half fits with its sign.
    let low = int4_hash(&format!("({value})::int8 << 32 >> 32"), seed);
    int4_hash(&format!("({value})::int8 >> 32"), &low)
}

/// The server's own operator, or whichever a type has that is not the server's own.
fn operator(name: &str, built_in: bool) -> String {
    if built_in {
        format!("OPERATOR(pg_catalog.{name})")
    } else {
        name.to_owned()
    }
}

/// The first so many parameters, arrays of texts, side by side.
fn unnested(arrays: usize) -> String {
    let each = |number| format!("pg_catalog.unnest(${number}::text[])");
    let all: Vec<String> = (1..=arrays).map(each).collect();
    format!("ROWS FROM ({})", all.join(", "))
}

/// Whether two values have the same text, whatever the type or a collation takes for equal.
pub(crate) fn same_text(one: &str, other: &str) -> String {
    format!("({one})::text COLLATE \"C\" = ({other})::text COLLATE \"C\"")
}

impl TablePlan {
    /// The key at the end of a block. Its text is made outside: inside it would be made of every row that is passed
    /// over, which takes longer than everything else.
    pub(super) fn step(&self, range: RangeForm<'_>, rows: u64) -> String {
        format!(
            "SELECT {} FROM (SELECT {} FROM {} AS t{} ORDER BY {} OFFSET {} LIMIT 1) AS q",
            self.numbered(|index| format!("q.k{index}::text")),
            self.key_columns(),
            self.source_of(range.partition),
            self.within(range),
            self.key_order(),
            rows.saturating_sub(1),
        )
    }

    /// Every `every`-th key.
    pub(super) fn cuts(&self, range: RangeForm<'_>, every: u64, limit: u64) -> String {
        format!(
            "SELECT {} FROM (SELECT {}, pg_catalog.row_number() OVER (ORDER BY {}) AS n \
             FROM {} AS t{}) AS q WHERE n % {every} = 0 ORDER BY n LIMIT {limit}",
            self.numbered(|index| format!("q.k{index}::text")),
            self.key_columns(),
            self.key_order(),
            self.source_of(range.partition),
            self.within(range),
        )
    }

    /// Count, exclusive or and sum over a range. `OFFSET 0` keeps the hash from being computed for each aggregate.
    pub(super) fn digest(&self, range: RangeForm<'_>, cap: u64) -> String {
        format!(
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.bit_xor(h), 0), coalesce(pg_catalog.sum(h), 0)::text \
             FROM (SELECT {} AS h FROM {} AS t{} LIMIT {cap} OFFSET 0) AS q",
            self.row_hash(),
            self.source_of(range.partition),
            self.within(range),
        )
    }

    /// The same over many ranges with two ends, one by one: the first parameters are the keys after which they begin, an
    /// array for each of the key's columns, the others those with which they end.
    pub(super) fn digests(&self, partition: Option<&Partition>, cap: u64) -> String {
        let arrays = unnested(2 * self.key.len());
        let after = self.numbered(|index| format!("a{index}"));
        let to = self.numbered(|index| format!("b{index}"));
        let after_that = self.compared(
            ">",
            &self.numbered(|index| self.bound(index - 1, &format!("q.a{index}"))),
        );
        let up_to_that = self.compared(
            "<=",
            &self.numbered(|index| self.bound(index - 1, &format!("q.b{index}"))),
        );
        format!(
            "SELECT d.n, d.x, d.s FROM {arrays} WITH ORDINALITY AS q({after}, {to}, i) CROSS JOIN LATERAL (\
             SELECT pg_catalog.count(*) AS n, coalesce(pg_catalog.bit_xor(h), 0) AS x, \
             coalesce(pg_catalog.sum(h), 0)::text AS s \
             FROM (SELECT {} AS h FROM {} AS t{} LIMIT {cap} OFFSET 0) AS r) AS d ORDER BY q.i",
            self.row_hash(),
            self.source_of(partition),
            self.filtered(vec![after_that, up_to_that]),
        )
    }

    /// Keys and hashes in the order of the keys' bytes.
    pub(super) fn key_digests(&self, range: RangeForm<'_>) -> String {
        let texts = self.numbered(|index| format!("{} AS k{index}", self.key_text(index - 1, "t")));
        let order = self.numbered(|index| self.by_bytes(&format!("k{index}")));
        format!(
            "SELECT {}, h FROM (SELECT {texts}, {} AS h FROM {} AS t{} OFFSET 0) AS q ORDER BY {order}",
            self.numbered(|index| format!("k{index}")),
            self.row_hash(),
            self.source_of(range.partition),
            self.within(range),
        )
    }

    /// Whole rows by key, of whatever partition. Not filtered: a row that the filter hides on one node only is there all the same.
    pub(super) fn rows(&self) -> String {
        let (times, from_times) = if self.commit_times {
            (
                "pg_catalog.to_char(o.\"timestamp\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                 o.roident::text",
                " LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) AS o ON true",
            )
        } else {
            ("NULL::text, NULL::text", "")
        };
        let mut cells = String::new();
        for column in &self.columns {
            let _ = write!(cells, ", {}", column.text(self.comparison));
        }
        format!(
            "SELECT q.i, t.xmin::text || t.ctid::text, {times}{cells} FROM {}{from_times} ORDER BY q.i",
            self.looked_up(),
        )
    }

    /// Versions by key.
    pub(super) fn versions(&self) -> String {
        format!(
            "SELECT q.i, t.xmin::text || t.ctid::text FROM {}",
            self.looked_up()
        )
    }

    /// A partition that the plan does not know would be read as the whole table: more rows than are meant, which differ from
    /// the other node's and are then looked at by key.
    fn source_of(&self, partition: Option<&Partition>) -> &str {
        let partition = partition.and_then(|partition| self.partitions.get(partition));
        partition.unwrap_or(&self.source)
    }

    /// In the whole table: a row may be in another partition on another node.
    fn looked_up(&self) -> String {
        let arrays = unnested(self.key.len());
        let names = self.numbered(|index| format!("k{index}"));
        let mut equal = String::new();
        for (index, key) in self.key.iter().enumerate() {
            let and = if index == 0 { "" } else { " AND " };
            let name = quote(&self.columns[key.column].name);
            let value = format!("q.k{}::{}", index + 1, key.cast_type);
            let _ = write!(equal, "{and}t.{name} {} {value}", operator("=", key.built_in));
            if self.shape.key_identity == KeyIdentity::Text {
                // Any text of the value, in the server's words.
                let _ = write!(equal, " AND {}", same_text(&format!("t.{name}"), &value));
            }
        }
        format!(
            "{arrays} WITH ORDINALITY AS q({names}, i) JOIN {} AS t ON {equal}",
            self.source,
        )
    }

    fn key_text(&self, index: usize, table: &str) -> String {
        format!(
            "{table}.{}::text",
            quote(&self.columns[self.key[index].column].name)
        )
    }

    /// The key's columns as they are, under names that no column of the user's can clash with.
    fn key_columns(&self) -> String {
        self.numbered(|index| {
            let name = quote(&self.columns[self.key[index - 1].column].name);
            format!("t.{name} AS k{index}")
        })
    }

    fn key_order(&self) -> String {
        self.numbered(|index| self.ordered(index - 1))
    }

    fn ordered(&self, index: usize) -> String {
        match self.order {
            WalkOrder::Native => format!("t.{}", quote(&self.columns[self.key[index].column].name)),
            WalkOrder::Bytes => self.by_bytes(&self.key_text(index, "t")),
        }
    }

    fn by_bytes(&self, text: &str) -> String {
        if self.utf8 {
            format!("{text} COLLATE \"C\"")
        } else {
            format!("pg_catalog.convert_to({text}, 'UTF8')")
        }
    }

    /// A text as something that the key's column can be compared with.
    fn bound(&self, index: usize, text: &str) -> String {
        match self.order {
            WalkOrder::Native => format!("{text}::{}", self.key[index].cast_type),
            WalkOrder::Bytes => self.by_bytes(text),
        }
    }

    fn within(&self, range: RangeForm<'_>) -> String {
        let mut predicates = Vec::with_capacity(3);
        let mut parameter = 0;
        for (there, comparison) in [(range.after, ">"), (range.to, "<=")] {
            if there {
                let bounds =
                    self.numbered(|index| self.bound(index - 1, &format!("${}::text", parameter + index)));
                predicates.push(self.compared(comparison, &bounds));
                parameter += self.key.len();
            }
        }
        self.filtered(predicates)
    }

    /// A WHERE of these and the operator's predicate.
    fn filtered(&self, mut predicates: Vec<String>) -> String {
        if let Some(filter) = &self.filter {
            // The line ends keep a comment in the filter from hiding what follows it.
            predicates.push(format!("(\n{filter}\n)"));
        }
        if predicates.is_empty() {
            return String::new();
        }
        format!(" WHERE {}", predicates.join(" AND "))
    }

    fn compared(&self, comparison: &str, bounds: &str) -> String {
        let columns = self.key_order();
        let texts = self.order == WalkOrder::Bytes;
        let comparison = operator(comparison, texts || self.key.iter().all(|key| key.built_in));
        if self.key.len() == 1 {
            format!("{columns} {comparison} {bounds}")
        } else {
            format!("ROW({columns}) {comparison} ROW({bounds})")
        }
    }

    fn numbered(&self, each: impl Fn(usize) -> String) -> String {
        let parts: Vec<String> = (1..=self.key.len()).map(each).collect();
        parts.join(", ")
    }

    /// The 64-bit hash of a row: every column's text, NULL apart from every text, and where it stands.
    pub(super) fn row_hash(&self) -> String {
        match self.hash {
            RowHash::Chained => self.chained(),
            RowHash::Sha256 => self.sha256(),
        }
    }

    /// The hash of a column's own hash function is NULL for NULL, and so is that of every column after it: such a row is
    /// hashed by its texts.
    fn chained(&self) -> String {
        let by_texts = self.chains(|_| HashInput::Text);
        if self.columns.iter().all(|column| column.input == HashInput::Text) {
            return by_texts;
        }
        format!("coalesce({}, {by_texts})", self.chains(|column| column.input))
    }

    fn chains(&self, input: impl Fn(&PlannedColumn) -> HashInput) -> String {
        let null = quote_text(&self.null_text);
        let chains: Vec<String> = self
            .columns
            .chunks(CHAIN)
            .enumerate()
            .map(|(number, columns)| {
                let step = CHAIN_SEED_STEP.wrapping_mul(i64::try_from(number).unwrap_or(i64::MAX));
                let mut hash = format!("({})::int8", self.seed.wrapping_add(step));
                for column in columns {
                    let value = format!("t.{}", quote(&column.name));
                    hash = match input(column) {
                        HashInput::Int4 => int4_hash(&value, &hash),
                        HashInput::Int8 => int8_hash(&value, &hash),
                        HashInput::Text => {
                            let text = column.text(self.comparison);
                            format!(
                                "pg_catalog.hashtextextended(coalesce({text}, {null}) COLLATE \"C\", {hash})"
                            )
                        }
                    };
                }
                hash
            })
            .collect();
        if let [chain] = &chains[..] {
            return chain.clone();
        }
        // Mixed as texts: the typed hash of an int8 would fold it to 32 bits.
        let joined: Vec<String> = chains.iter().map(|chain| format!("({chain})::text")).collect();
        format!(
            "pg_catalog.hashtextextended(({}) COLLATE \"C\", ({})::int8)",
            joined.join(" || ',' || "),
            self.seed
        )
    }

    fn sha256(&self) -> String {
        let tagged: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let text = column.text(self.comparison);
                format!("coalesce(pg_catalog.length({text})::text || ':' || {text}, 'N')")
            })
            .collect();
        // In groups, for the same reason as the chains.
        let groups: Vec<String> = tagged
            .chunks(CHAIN)
            .map(|group| format!("({})", group.join(" || ")))
            .collect();
        format!(
            "('x' || pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to({} || '{}', \
             'UTF8')), 1, 8), 'hex'))::bit(64)::int8",
            groups.join(" || "),
            self.seed
        )
    }
}
