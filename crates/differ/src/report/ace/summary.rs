//! The summary of ACE's report.

use std::collections::BTreeMap;
use std::time::Duration;

use changeling_core::ident::TableName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Comparison, JobHeader, JobSummary};

/// ACE's summary, field for field. Reading it back, a field that is not there is empty: ACE's versions differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AceSummary {
    /// Schema of the table.
    pub schema: String,
    /// Name of the table.
    pub table: String,
    /// The operator's predicate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub table_filter: String,
    /// All nodes.
    pub nodes: Vec<String>,
    /// Rows of a range.
    pub block_size: u64,
    /// Rows of a range that is not split.
    pub compare_unit_size: u64,
    /// Workers per processor.
    pub concurrency_factor: f64,
    /// Differences after which a pair was given up.
    pub max_diff_rows: u64,
    /// RFC 3339.
    pub start_time: String,
    /// RFC 3339.
    pub end_time: String,
    /// As Go writes durations.
    pub time_taken: String,
    /// Differences by pair, `n1/n2`.
    pub diff_rows_count: BTreeMap<String, u64>,
    /// Whether a pair was given up.
    pub diff_row_limit_reached: bool,
    /// Rows compared; ACE writes an estimate, this program the count of the node with most rows.
    pub total_rows_checked: u64,
    /// Ranges at the start.
    pub initial_ranges_count: u64,
    /// Those of them that differ.
    pub mismatched_ranges_count: u64,
    /// Columns of the key.
    pub primary_key: Vec<String>,
    /// What rows were restricted to, in all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effective_filter: String,
    /// The origin asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub against_origin: String,
    /// The origin found.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub against_origin_resolved: String,
    /// The fence asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub until: String,
    /// Whether only rows of one origin are in the report: such a report is for `--recovery-mode`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub origin_only: bool,
    /// Ours, and only there where nodes have the table under different names: the name by node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_tables: BTreeMap<String, TableName>,
    /// Ours, and only there if it is not the usual one: when values were the same.
    #[serde(skip_serializing_if = "is_exact")]
    pub comparison: Comparison,
    /// Ours, and only there where there are any: findings that were not confirmed, which are not in this form of the report.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight: u64,
    /// Ours, and only there if it is so: why the report is not about every row of the table.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_established: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
fn is_exact(comparison: &Comparison) -> bool {
    *comparison == Comparison::Exact
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl AceSummary {
    /// The summary of a job.
    #[must_use]
    pub fn of(header: &JobHeader, summary: &JobSummary) -> Self {
        let shape = &header.shape;
        let pair = |a: usize, b: usize| super::write::pair_name(header, a, b);
        let taken = summary.ended.duration_since(header.started);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Self {
            schema: shape.name.schema.clone(),
            table: shape.name.table.clone(),
            table_filter: text(&header.table_filter),
            nodes: header.nodes.iter().map(ToString::to_string).collect(),
            block_size: header.block_size,
            compare_unit_size: header.compare_unit_size,
            concurrency_factor: header.concurrency_factor,
            max_diff_rows: header.max_diff_rows,
            start_time: header.started.to_string(),
            end_time: summary.ended.to_string(),
            time_taken: go_duration(Duration::try_from(taken).unwrap_or_default()),
            diff_rows_count: summary
                .confirmed_by_pair
                .iter()
                .map(|&(a, b, count)| (pair(a, b), count))
                .collect(),
            diff_row_limit_reached: summary.limit_reached,
            total_rows_checked: summary.nodes.iter().map(|node| node.rows).max().unwrap_or(0),
            initial_ranges_count: summary.ranges,
            mismatched_ranges_count: summary.mismatched_ranges,
            primary_key: shape.key_columns().map(|column| column.name.clone()).collect(),
            effective_filter: text(&header.table_filter),
            against_origin: text(&header.against_origin),
            against_origin_resolved: text(&header.against_origin),
            until: header
                .until
                .as_ref()
                .map(Timestamp::to_string)
                .unwrap_or_default(),
            origin_only: header.against_origin.is_some(),
            node_tables: node_tables(header),
            comparison: header.comparison,
            in_flight: summary.in_flight,
            not_established: summary.shortfall().unwrap_or_default(),
        }
    }
}

impl AceSummary {
    /// The table of each node.
    #[must_use]
    pub fn tables(&self) -> Vec<TableName> {
        let table = TableName::new(&*self.schema, &*self.table);
        let of = |node: &String| self.node_tables.get(node).unwrap_or(&table).clone();
        self.nodes.iter().map(of).collect()
    }
}

fn node_tables(header: &JobHeader) -> BTreeMap<String, TableName> {
    let tables = header.tables();
    if tables.iter().all(|table| *table == header.shape.name) {
        return BTreeMap::new();
    }
    let nodes = header.nodes.iter().map(ToString::to_string);
    nodes.zip(tables).collect()
}

/// `1h2m3.5s`, `850ms`, as Go writes it.
fn go_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let short = |unit: u128, word: &str| {
        let (whole, rest) = (nanoseconds / unit, nanoseconds % unit);
        let width = unit.ilog10() as usize;
        let fraction = format!("{rest:0width$}");
        let fraction = fraction.trim_end_matches('0');
        let point = if rest == 0 { "" } else { "." };
        format!("{whole}{point}{}{word}", if rest == 0 { "" } else { fraction })
    };
    match nanoseconds {
        0 => "0s".into(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => short(1_000, "µs"),
        1_000_000..1_000_000_000 => short(1_000_000, "ms"),
        _ => {
            let minutes = nanoseconds / 60_000_000_000;
            let seconds = duration - Duration::from_secs(u64::try_from(minutes).unwrap_or(0) * 60);
            let seconds = if seconds.is_zero() {
                "0s".to_owned()
            } else {
                let text = format!("{}.{:09}", seconds.as_secs(), seconds.subsec_nanos());
                format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, "0s")]
    #[case(15, "15ns")]
    #[case(1_500, "1.5µs")]
    #[case(850_000_000, "850ms")]
    #[case(850_250_000, "850.25ms")]
    #[case(1_230_000_000, "1.23s")]
    #[case(10_000_000_000, "10s")]
    #[case(60_000_000_000, "1m0s")]
    #[case(3_723_500_000_000, "1h2m3.5s")]
    fn durations_are_gos(#[case] nanoseconds: u64, #[case] text: &str) {
        assert_eq!(go_duration(Duration::from_nanos(nanoseconds)), text);
    }
}
