//! Keys that a repair has touched.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _};

use super::RepairError;
use crate::model::Key;
use crate::report::recorded::RecordedDifference;

/// Keys that were written, in a temporary file: there may be a million of them.
pub(super) struct Touched {
    file: BufWriter<File>,
}

pub(super) type TouchedKey = (Key, Vec<(usize, usize)>);

impl Touched {
    pub(super) fn new() -> Result<Self, RepairError> {
        let file = tempfile::tempfile().map_err(Self::failed)?;
        Ok(Self {
            file: BufWriter::new(file),
        })
    }

    fn failed(source: std::io::Error) -> RepairError {
        RepairError::File {
            path: "a temporary file".into(),
            source,
        }
    }

    pub(super) fn add(&mut self, difference: &RecordedDifference) -> Result<(), RepairError> {
        let line = (&difference.key, &difference.pairs);
        let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(Self::failed)
    }

    pub(super) fn read(self) -> Result<TouchedReader, RepairError> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| Self::failed(error.into_error()))?;
        let mut file = BufReader::new(file);
        file.rewind().map_err(Self::failed)?;
        Ok(TouchedReader { file })
    }
}

pub(super) struct TouchedReader {
    file: BufReader<File>,
}

impl TouchedReader {
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<TouchedKey>, RepairError> {
        let mut batch = Vec::new();
        let mut line = String::new();
        while batch.len() < most {
            line.clear();
            if self.file.read_line(&mut line).map_err(Touched::failed)? == 0 {
                break;
            }
            batch.push(serde_json::from_str(&line).map_err(|error| Touched::failed(error.into()))?);
        }
        Ok(batch)
    }
}
