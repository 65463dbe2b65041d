use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use opd_batch::Source;
use opd_models::Message;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A prompt and what is known of its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// The prompt's text.
    pub prompt: String,
    /// The right answer, where there is one.
    pub label: Option<String>,
    /// What the teacher is asked instead, where it is told more.
    pub teacher_prompt: Option<String>,
    /// Where the prompt came from.
    pub source: Source,
    /// The conversation that a chat template is to write, for a prompt that is a list of
    /// messages; `prompt` is then what its last message says.
    pub messages: Vec<Message>,
}

/// Names of the fields of a prompt file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Field of the prompt (`--input-key`).
    pub input: String,
    /// Field of the label (`--label-key`).
    pub label: String,
    /// Field of what the teacher is asked instead of the prompt, which a line may lack.
    pub teacher_prompt: Option<String>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { input: "prompt".into(), label: "label".into(), teacher_prompt: None }
    }
}

/// A prompt file in memory, handed out by step.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSet(Vec<Example>);

impl PromptSet {
    /// Reads a JSONL file: one object a line; `source` is optional.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Line`] naming file and line, [`Error::NoPrompts`].
    pub fn from_jsonl(path: impl AsRef<Path>, fields: &Fields) -> Result<Self> {
        let path = path.as_ref();
        let io = |source| Error::Io { path: path.into(), source };
        let file = BufReader::new(File::open(path).map_err(io)?);
        let mut examples = Vec::new();
        for (i, line) in file.split(b'\n').enumerate() {
            let line = line.map_err(io)?;
            let bad = |what| Error::Line { path: path.into(), line: i + 1, what };
            let line =
                String::from_utf8(line).map_err(|error| bad(format!("not UTF-8: {error}")))?;
            if !line.trim().is_empty() {
                examples.push(parse(&line, fields).map_err(bad)?);
            }
        }
        match examples.is_empty() {
            true => Err(Error::NoPrompts { path: path.into() }),
            false => Ok(Self(examples)),
        }
    }

    /// The examples in the file's order.
    pub fn examples(&self) -> &[Example] {
        &self.0
    }

    /// Indices of the `n` examples of step `step` (from 0): epochs in a shuffled order of their own, a
    /// function of `seed` and the position alone, so that a resumed run goes on exactly.
    pub fn batch(&self, seed: u64, step: u64, n: usize) -> Vec<usize> {
        let len = self.0.len() as u64;
        let first = step * n as u64;
        let mut batch = Vec::with_capacity(n);
        let mut epoch = None;
        for position in first..first + n as u64 {
            let wanted = position / len;
            let order = match epoch.take() {
                Some((number, order)) if number == wanted => order,
                _ => self.order(seed, wanted),
            };
            batch.push(order[(position % len) as usize]);
            epoch = Some((wanted, order));
        }
        batch
    }

    /// The same in the order of the file, over and over.
    pub fn in_order(&self, step: u64, n: usize) -> Vec<usize> {
        let (first, len) = (step * n as u64, self.0.len() as u64);
        (first..first + n as u64).map(|position| (position % len) as usize).collect()
    }

    /// A permutation of the examples (Fisher and Yates).
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch);
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        for i in (1..order.len()).rev() {
            let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
            order.swap(i, j as usize);
        }
        order
    }
}

fn parse(line: &str, fields: &Fields) -> std::result::Result<Example, String> {
    let object: Map<String, Value> =
        serde_json::from_str(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let text = |name: &str| text(&object, name);
    let known = || object.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    if let Some(Value::Array(_)) = object.get(&fields.input) {
        return conversation(&object, fields, text(&fields.label)?, source(&object)?);
    }
    let prompt = text(&fields.input)?.ok_or_else(|| {
        format!(
            "field `{}` is missing (there are: {}); name it with --input-key",
            fields.input,
            known()
        )
    })?;
    if prompt.is_empty() {
        return Err(format!("field `{}` is empty", fields.input));
    }
    let (label, source) = (text(&fields.label)?, source(&object)?);
    let teacher_prompt = teacher_prompt(&object, fields)?;
    Ok(Example { prompt, label, teacher_prompt, source, messages: Vec::new() })
}

fn source(object: &Map<String, Value>) -> std::result::Result<Source, String> {
    Ok(text(object, "source")?.map(Source::new).unwrap_or_default())
}

/// A prompt that is a list of messages.
fn conversation(
    object: &Map<String, Value>,
    fields: &Fields,
    label: Option<String>,
    source: Source,
) -> std::result::Result<Example, String> {
    let field = &fields.input;
    let bad = |error: serde_json::Error| {
        format!("field `{field}`: each message must have a `role` and a text as `content`: {error}")
    };
    if object.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty()) {
        return Err("field `tools`: prompts with tools are not there".to_owned());
    }
    let messages = object.get(field).cloned().unwrap_or_default();
    let messages: Vec<Message> = serde_json::from_value(messages).map_err(bad)?;
    let last = messages.last().ok_or_else(|| format!("field `{field}` is empty"))?;
    let (prompt, teacher_prompt) = (last.content.clone(), teacher_prompt(object, fields)?);
    Ok(Example { prompt, label, teacher_prompt, source, messages })
}

/// What the teacher is asked instead, if the line says so.
fn teacher_prompt(
    object: &Map<String, Value>,
    fields: &Fields,
) -> std::result::Result<Option<String>, String> {
    let Some(name) = &fields.teacher_prompt else { return Ok(None) };
    Ok(text(object, name)?.filter(|text| !text.is_empty()))
}

fn text(object: &Map<String, Value>, name: &str) -> std::result::Result<Option<String>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("field `{name}` must be text, got {other}")),
    }
}
