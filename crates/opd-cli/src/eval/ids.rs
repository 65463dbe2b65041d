//! Files of token ids: `{"tokens": [ids], "label_tokens": [ids]}` a line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    ops::Range,
};

use anyhow::{Context, anyhow};
use opd_data::DataPath;
use serde_json::{Map, Value};

use super::question::{self, Origin, Question, Right};
use crate::{
    model::Model,
    records::{self, Line, bad_line, record},
};

type Record = Map<String, Value>;

/// Longest first line that is looked at, in bytes.
const LONGEST: u64 = 64 << 20;

/// Whether the first row of a file has `tokens`: then all of them do.
pub(super) fn holds_ids(path: &DataPath) -> anyhow::Result<bool> {
    let cannot = || format!("{}: cannot read", path.file.display());
    let file = File::open(&path.file).with_context(cannot)?;
    let mut reader = BufReader::new(file.take(LONGEST));
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).with_context(cannot)? == 0 {
            break;
        }
        // A Parquet file holds no ids.
        if number == 1 && line.starts_with(b"PAR1") {
            return Ok(false);
        }
        let text = str::from_utf8(&line).map_err(|error| bad_line(&path.file, number, error))?;
        if !text.trim().is_empty() {
            return Ok(record::<Record>(&path.file, number, text)?.contains_key("tokens"));
        }
    }
    Err(no_prompts(path))
}

fn no_prompts(path: &DataPath) -> anyhow::Error {
    opd_data::Error::NoPrompts { path: path.clone(), bad: 0 }.into()
}

/// The first `limit` questions of such a file.
pub(super) fn read(
    path: &DataPath,
    origin: Origin,
    model: &Model,
    limit: usize,
) -> anyhow::Result<Vec<Question>> {
    let lines: Vec<Line<Record>> = records::read(&path.file)?;
    let Range { start, end } = path.rows(lines.len() as u64);
    if start == end {
        return Err(no_prompts(path));
    }
    let wanted = lines.into_iter().skip(start as usize).take((end - start) as usize);
    let questions = wanted.take(limit).map(|Line { number, record }| {
        let question = || -> anyhow::Result<Question> {
            let prompt = ids(&record, "tokens")?;
            question::check(&prompt, model).map_err(anyhow::Error::msg)?;
            let answer = Right::Ids(ids(&record, "label_tokens")?);
            Ok(origin.question(number as u64, prompt, answer))
        };
        question().map_err(|error| bad_line(&path.file, number, format!("{error:#}")))
    });
    questions.collect()
}

fn ids(record: &Record, field: &str) -> anyhow::Result<Vec<u32>> {
    let value = record.get(field).ok_or_else(|| {
        anyhow!(
            "field `{field}` is missing; each row of a file of token ids has `tokens`, and the right \
             answer's ids as `label_tokens`"
        )
    })?;
    serde_json::from_value(value.clone())
        .map_err(|error| anyhow!("field `{field}` must be a list of token ids: {error}"))
}
