//! One page that needs nothing else: summary, pairs, where in the key space the differences lie, every difference with the
//! changed part of each cell marked, and a builder of repair plans.
//!
//! Differences stand in the page as JSON, a thousand to a script element, and are parsed when they come into view: the
//! browser never has more than a few thousand of them as objects and a few dozen as elements. Of a difference's rows the
//! first is written out, the others only where they differ from it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::csv::origin_word;
use super::sort::SortedReport;
use crate::model::{Difference, Finding, Image, JobHeader, Present, Unsettled};

/// Differences in one script element.
const CHUNK: usize = 1000;

/// Differences in the page; beyond, it says how many there are and where. A browser takes a few hundred megabytes.
const PAGE_LIMIT: u64 = 200_000;

/// Bars of the map: a pixel or two each on a wide screen.
const BARS: usize = 240;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Writes the page. Reads the sorted report twice.
///
/// # Errors
/// Reading the sorted report or writing fails.
pub fn write(report: &mut SortedReport, output: &mut impl Write) -> io::Result<()> {
    let survey = Survey::of(report)?;
    let title = format!(
        "{}.{}",
        report.header.shape.name.schema, report.header.shape.name.table
    );
    let mut parts = PAGE.split("<!--part-->");
    let mut part = || parts.next().unwrap_or_default();
    output.write_all(part().as_bytes())?;
    output.write_all(escaped(&title).as_bytes())?;
    output.write_all(part().as_bytes())?;
    output.write_all(STYLE.as_bytes())?;
    output.write_all(part().as_bytes())?;
    write_json(&head(report, &survey), "head", output)?;
    write_chunks(report, output)?;
    output.write_all(part().as_bytes())?;
    output.write_all(SCRIPT.as_bytes())?;
    output.write_all(part().as_bytes())
}

/// What has to be known before the first difference is written.
struct Survey {
    total: u64,
    /// Whether any difference has two values in a column, by position.
    changing: Vec<bool>,
    bars: Vec<Bar>,
    first: Option<String>,
    last: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Bar {
    count: u64,
    /// Place of its first difference.
    start: u64,
}

impl Survey {
    fn of(report: &mut SortedReport) -> io::Result<Self> {
        let mut changing = vec![false; report.header.shape.columns.len()];
        let (mut total, mut ends) = (0, None::<(Difference, Difference)>);
        report.for_each(|_, finding| {
            let difference = into_difference(finding);
            mark_changing(&difference, &mut changing);
            total += 1;
            ends = Some(match ends.take() {
                None => (difference.clone(), difference),
                Some((first, _)) => (first, difference),
            });
            Ok(())
        })?;
        let scale = ends
            .as_ref()
            .map(|(first, last)| Scale::new(&first.key.0[0], &last.key.0[0]));
        let mut bars = vec![Bar::default(); BARS];
        let mut place = 0;
        report.for_each(|_, finding| {
            if let Some(scale) = &scale {
                let bar = &mut bars[scale.bar(&finding.difference().key.0[0], place, total)];
                if bar.count == 0 {
                    bar.start = place;
                }
                bar.count += 1;
            }
            place += 1;
            Ok(())
        })?;
        Ok(Self {
            total,
            changing,
            bars,
            first: ends.as_ref().map(|(first, _)| first.key.to_string()),
            last: ends.as_ref().map(|(_, last)| last.key.to_string()),
        })
    }
}

fn mark_changing(difference: &Difference, changing: &mut [bool]) {
    let mut rows = difference.images.iter().filter_map(Image::row);
    let Some(first) = rows.next() else { return };
    for row in rows {
        for (column, changing) in changing.iter_mut().enumerate() {
            *changing |= row.0[column] != first.0[column];
        }
    }
}

/// Where a key's first column lies between the first and the last difference.
enum Scale {
    Numbers {
        first: f64,
        span: f64,
    },
    /// By the bytes behind what all keys have in common.
    Texts {
        common: usize,
        first: f64,
        span: f64,
    },
    /// All have the same: by rank.
    Rank,
}

impl Scale {
    fn new(first: &str, last: &str) -> Self {
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        if let (Some(first), Some(last)) = (number(first), number(last)) {
            if last > first {
                return Self::Numbers {
                    first,
                    span: last - first,
                };
            }
            return Self::Rank;
        }
        let common = first
            .bytes()
            .zip(last.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        let (first, last) = (fraction(first, common), fraction(last, common));
        if last > first {
            Self::Texts {
                common,
                first,
                span: last - first,
            }
        } else {
            Self::Rank
        }
    }

    fn bar(&self, part: &str, place: u64, total: u64) -> usize {
        let share = match self {
            Self::Numbers { first, span } => {
                part.parse::<f64>().map_or(0.0, |number| (number - first) / span)
            }
            Self::Texts { common, first, span } => (fraction(part, *common) - first) / span,
            Self::Rank => place as f64 / total.max(1) as f64,
        };
        // Not a number and what lies outside end up at an end.
        ((share * BARS as f64) as usize).min(BARS - 1)
    }
}

/// The bytes from `start` on as a number between 0 and 1.
fn fraction(text: &str, start: usize) -> f64 {
    let bytes = text.bytes().skip(start).take(6);
    bytes
        .rev()
        .fold(0.0, |behind, byte| (f64::from(byte) + behind) / 256.0)
}

fn head(report: &SortedReport, survey: &Survey) -> Value {
    let (header, summary) = (&report.header, &report.summary);
    let columns = header.shape.columns.iter().enumerate().map(|(position, column)| {
        json!({
            "name": column.name,
            "type": column.type_text,
            "key": header.shape.is_key(position),
            "changing": survey.changing[position],
        })
    });
    let pairs = summary
        .confirmed_by_pair
        .iter()
        .map(|(a, b, count)| json!([a, b, count]));
    json!({
        "table": [header.shape.name.schema, header.shape.name.table],
        "nodes": header.nodes,
        "key": header.shape.key,
        "columns": columns.collect::<Vec<_>>(),
        "pairs": pairs.collect::<Vec<_>>(),
        "map": survey.bars.iter().map(|bar| json!([bar.count, bar.start])).collect::<Vec<_>>(),
        "ends": [survey.first, survey.last],
        "total": survey.total,
        "embedded": survey.total.min(PAGE_LIMIT),
        "chunk": CHUNK,
        "filter": header.table_filter,
        "started": header.started,
        "summary": summary,
    })
}

fn write_chunks(report: &mut SortedReport, output: &mut impl Write) -> io::Result<()> {
    let mut chunk: Vec<Value> = Vec::with_capacity(CHUNK);
    let mut written = 0;
    report.for_each(|header, finding| {
        if written == PAGE_LIMIT {
            return Ok(());
        }
        written += 1;
        chunk.push(compact(header, &finding));
        if chunk.len() == CHUNK {
            write_json(&Value::Array(std::mem::take(&mut chunk)), "chunk", output)?;
        }
        Ok(())
    })?;
    if chunk.is_empty() {
        return Ok(());
    }
    write_json(&Value::Array(chunk), "chunk", output)
}

/// `[why in flight or 0, image, …]`; an image is 0 for no row, `[cells, metadata…]` for the first row, and
/// `[{column: cell}, metadata…]` for those that are compared with it.
fn compact(header: &JobHeader, finding: &Finding) -> Value {
    let mut values = vec![match finding {
        Finding::Confirmed(_) => json!(0),
        Finding::InFlight(_, Unsettled::KeepsChanging) => json!("keeps changing"),
        Finding::InFlight(_, Unsettled::NotReplayed) => json!("not replayed"),
        Finding::InFlight(_, Unsettled::AfterFence) => json!("committed after --until"),
    }];
    let mut base: Option<&Present> = None;
    for image in &finding.difference().images {
        values.push(match image {
            Image::Absent => {
                debug_assert_eq!(finding.difference().images.len(), header.nodes.len());
                json!(0)
            }
            Image::Present(present) => {
                let cells = match base {
                    None => json!(present.row),
                    Some(base) => changes(base, present),
                };
                base = base.or(Some(present));
                json!([cells, present.commit_ts, present.origin.as_ref().map(origin_word)])
            }
        });
    }
    Value::Array(values)
}

fn changes(base: &Present, present: &Present) -> Value {
    let cells = base.row.0.iter().zip(&present.row.0).enumerate();
    let changed = cells.filter(|(_, (base, cell))| base != cell);
    changed
        .map(|(column, (_, cell))| (column.to_string(), json!(cell)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn into_difference(finding: Finding) -> Difference {
    match finding {
        Finding::Confirmed(difference) | Finding::InFlight(difference, _) => difference,
    }
}

/// JSON that no browser takes for the end of the script that holds it, or for anything but data.
fn write_json(value: &Value, class: &str, output: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_string(value)?.replace('<', "\\u003c");
    writeln!(
        output,
        "<script type=\"application/json\" class=\"{class}\">{text}</script>"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
