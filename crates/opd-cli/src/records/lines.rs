use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;

/// A record and the line, from 1, that it stands on.
#[derive(Debug)]
pub(crate) struct Line<T> {
    pub(crate) number: usize,
    pub(crate) record: T,
}

/// What is wrong with a line of a file.
pub(crate) fn bad_line(path: &Path, number: usize, what: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{}:{number}: {what}", path.display())
}

/// All records of a JSONL file; blank lines are passed over.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<Line<T>>> {
    let file = File::open(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let mut records = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let number = index + 1;
        let line = line.map_err(|error| bad_line(path, number, error))?;
        if line.trim().is_empty() {
            continue;
        }
        records.push(Line { number, record: record(path, number, &line)? });
    }
    Ok(records)
}

/// The record of a line.
pub(crate) fn record<T: DeserializeOwned>(
    path: &Path,
    number: usize,
    line: &str,
) -> anyhow::Result<T> {
    serde_json::from_str(line)
        .map_err(|error| bad_line(path, number, format!("not a record: {}", said(&error))))
}

/// The parser sees one line and calls it line 1: only the column is left.
fn said(error: &serde_json::Error) -> String {
    error.to_string().replace(&format!(" at line {} column ", error.line()), " at column ")
}
