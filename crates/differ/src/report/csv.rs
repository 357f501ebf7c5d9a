//! Comma-separated values, as PostgreSQL's `COPY … (FORMAT csv, HEADER)` reads them: NULL is nothing at all, an empty text
//! is `""`.

use std::io::{self, Write};

use super::sort::SortedReport;
use crate::model::{Finding, Image, Origin};

/// Writes one line for each row of each node that takes part in a difference: key order, then the order of nodes.
///
/// The first columns are `finding` (`confirmed` or `in_flight`), `node`, `present`, `commit_ts` and `node_origin`; a node
/// without the row has a line with the key only.
///
/// # Errors
/// Reading the sorted report or writing fails.
pub fn write(report: &mut SortedReport, output: &mut impl Write) -> io::Result<()> {
    let mut heading = b"\"finding\",\"node\",\"present\",\"commit_ts\",\"node_origin\"".to_vec();
    for column in &report.header.shape.columns {
        push(&mut heading, Some(&column.name));
    }
    heading.push(b'\n');
    output.write_all(&heading)?;
    let mut line = Vec::new();
    report.for_each(|header, finding| {
        let word = match &finding {
            Finding::Confirmed(_) => "confirmed",
            Finding::InFlight(..) => "in_flight",
        };
        let difference = finding.difference();
        for (node, image) in header.nodes.iter().zip(&difference.images) {
            line.clear();
            line.extend(word.as_bytes());
            push(&mut line, Some(node.as_str()));
            push_image(&mut line, image, &difference.key, &header.shape);
            line.push(b'\n');
            output.write_all(&line)?;
        }
        Ok(())
    })
}

fn push_image(line: &mut Vec<u8>, image: &Image, key: &crate::model::Key, shape: &crate::model::TableShape) {
    match image {
        Image::Absent => {
            line.extend(b",false,,");
            for column in 0..shape.columns.len() {
                let part = shape.key.iter().position(|key| *key == column);
                push(line, part.and_then(|part| key.0.get(part)).map(AsRef::as_ref));
            }
        }
        Image::Present(present) => {
            line.extend(b",true");
            push(line, present.commit_ts.as_deref());
            push(line, present.origin.as_ref().map(origin_word).as_deref());
            for cell in &present.row.0 {
                push(line, cell.as_str());
            }
        }
    }
}

/// The word for an origin in every report: `local`, a node's name, or a number.
pub(super) fn origin_word(origin: &Origin) -> String {
    match origin {
        Origin::Local => "local".into(),
        Origin::Node(name) => name.clone(),
        Origin::Id(id) => id.to_string(),
    }
}

fn push(line: &mut Vec<u8>, text: Option<&str>) {
    line.push(b',');
    if let Some(text) = text {
        line.push(b'"');
        line.extend(text.replace('"', "\"\"").as_bytes());
        line.push(b'"');
    }
}
