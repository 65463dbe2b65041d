use std::path::Path;

use anyhow::anyhow;
use opd_reward::{Answer, Reward};
use opd_rollout::Sampling;
use serde_json::{Map, Value};

use crate::{
    model::Model,
    records::{self, Line, bad_line},
};

/// Names of the fields of text.
pub(super) struct Fields<'a> {
    pub(super) input: &'a str,
    pub(super) label: &'a str,
}

/// A prompt and its right answer.
pub(super) struct Question {
    /// Line in the file, from 0.
    pub(super) index: usize,
    pub(super) prompt: Vec<u32>,
    answer: Right,
}

enum Right {
    Text { prompt: String, label: String },
    Ids(Vec<u32>),
}

impl Question {
    pub(super) fn is_right(
        &self,
        response: &[u32],
        model: &Model,
        sampling: &Sampling,
        judge: &dyn Reward,
    ) -> anyhow::Result<bool> {
        Ok(match &self.answer {
            Right::Text { prompt, label } => {
                let whole = model.tokenizer()?.decode(response)?;
                let response = sampling.read(&whole);
                let label = Some(label.as_str());
                judge.reward(&Answer { prompt, response, label, source: "" })? > 0.5
            }
            Right::Ids(ids) => without_end(response, model) == without_end(ids, model),
        })
    }
}

/// The first `limit` questions of a file.
pub(super) fn read(
    path: &Path,
    fields: &Fields<'_>,
    model: &Model,
    limit: usize,
) -> anyhow::Result<Vec<Question>> {
    let lines: Vec<Line<Map<String, Value>>> = records::read(path)?;
    if lines.is_empty() {
        return Err(anyhow!("{}: no prompts; expected one JSON object a line", path.display()));
    }
    let questions = lines.into_iter().take(limit).map(|Line { number, record }| {
        question(number - 1, &record, fields, model)
            .map_err(|error| bad_line(path, number, format!("{error:#}")))
    });
    questions.collect()
}

fn question(
    index: usize,
    record: &Map<String, Value>,
    fields: &Fields<'_>,
    model: &Model,
) -> anyhow::Result<Question> {
    let (prompt, answer) = if record.contains_key("tokens") {
        (ids(record, "tokens")?, Right::Ids(ids(record, "label_tokens")?))
    } else {
        let (prompt, label) = (text(record, fields.input)?, text(record, fields.label)?);
        let tokens = model.tokenizer()?.encode(&prompt)?;
        (tokens, Right::Text { prompt, label })
    };
    if prompt.is_empty() {
        return Err(anyhow!("the prompt has no tokens; a model needs at least one"));
    }
    model.check(&prompt).map_err(anyhow::Error::msg)?;
    let context = model.lm.config().context;
    if prompt.len() == context {
        return Err(anyhow!(
            "the prompt fills the model's context of {context} and leaves no room for an answer"
        ));
    }
    Ok(Question { index, prompt, answer })
}

fn text(record: &Map<String, Value>, field: &str) -> anyhow::Result<String> {
    match record.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(other) => Err(anyhow!("field `{field}` must be text, got {other}")),
        None => {
            let known = record.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(anyhow!(
                "field `{field}` is missing (there are: {known}); name the fields with \
                 --input-key and --label-key"
            ))
        }
    }
}

fn ids(record: &Map<String, Value>, field: &str) -> anyhow::Result<Vec<u32>> {
    let value = record.get(field).ok_or_else(|| {
        anyhow!("field `{field}` is missing; beside `tokens` it holds the right answer's ids")
    })?;
    serde_json::from_value(value.clone())
        .map_err(|error| anyhow!("field `{field}` must be a list of token ids: {error}"))
}

fn without_end<'a>(ids: &'a [u32], model: &Model) -> &'a [u32] {
    match ids.split_last() {
        Some((last, rest)) if model.lm.config().eos_token_ids.contains(last) => rest,
        _ => ids,
    }
}
