//! One row: a JSON object, of which only the wanted fields are parsed.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use crate::{Example, Fields, Turn};

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Most fields that an error lists.
const LISTED: usize = 20;

/// A row as example; what is wrong with it otherwise.
pub(crate) fn read(text: &str, fields: &Fields) -> Result<Example, String> {
    let object: Object<'_> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let missing = || {
        let mut known: Vec<&str> = object.keys().map(String::as_str).take(LISTED).collect();
        if object.len() > LISTED {
            known.push("..");
        }
        format!(
            "field `{}` is missing (there are: {}); name it with --input-key",
            fields.input,
            known.join(", ")
        )
    };
    let input = field(&object, &fields.input)?.ok_or_else(missing)?;
    let mut example = match input.get().starts_with('[') {
        true => conversation(&input, &fields.input)?,
        false => {
            let prompt = as_text(&input, &fields.input)?.ok_or_else(missing)?;
            if prompt.is_empty() {
                return Err(format!("field `{}` is empty", fields.input));
            }
            Example { prompt, ..Example::default() }
        }
    };
    example.label = text_at(&object, &fields.label)?;
    if let Some(name) = &fields.teacher_prompt {
        example.teacher_prompt = text_at(&object, name)?.filter(|text| !text.is_empty());
    }
    for name in &fields.source {
        if let Some(source) = text_at(&object, name)? {
            example.source = opd_batch::Source::new(source);
            break;
        }
    }
    example.tools = tools(&object, &fields.tools)?;
    Ok(example)
}

/// The value at a name: a field of that very name, or one of objects within objects for a name
/// with dots; `None` where there is none or `null`.
fn field(object: &Object<'_>, name: &str) -> Result<Option<Box<RawValue>>, String> {
    if let Some(value) = object.get(name) {
        return Ok(Some((*value).to_owned()).filter(|value| value.get() != "null"));
    }
    let mut rest = name;
    // The longest name that is a field counts: `a.b` before `a`.
    while let Some((head, _)) = rest.rsplit_once('.') {
        if let Some(value) = object.get(head) {
            let below = &name[head.len() + 1..];
            if !value.get().starts_with('{') {
                return Ok(None);
            }
            let inner: Object<'_> = serde_json::from_str(value.get())
                .map_err(|error| format!("field `{head}`: {error}"))?;
            return field(&inner, below);
        }
        rest = head;
    }
    Ok(None)
}

fn text_at(object: &Object<'_>, name: &str) -> Result<Option<String>, String> {
    match field(object, name)? {
        Some(value) => as_text(&value, name),
        None => Ok(None),
    }
}

fn as_text(value: &RawValue, name: &str) -> Result<Option<String>, String> {
    match serde_json::from_str(value.get()) {
        Ok(Value::String(text)) => Ok(Some(text)),
        Ok(Value::Null) => Ok(None),
        Ok(Value::Number(_) | Value::Bool(_)) => Ok(Some(value.get().to_owned())),
        Ok(other) => Err(format!("field `{name}` must be text, got {}", shortened(&other))),
        Err(error) => Err(format!("field `{name}`: {error}")),
    }
}

/// The start of a value, for messages.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}

/// A prompt that is a list of messages.
fn conversation(value: &RawValue, name: &str) -> Result<Example, String> {
    let bad = |error: String| {
        format!("field `{name}`: each message must have a `role` and a text as `content`: {error}")
    };
    let messages: Vec<&RawValue> =
        serde_json::from_str(value.get()).map_err(|error| bad(error.to_string()))?;
    let turns: Vec<Turn> =
        messages.into_iter().map(Turn::read).collect::<Result<_, _>>().map_err(bad)?;
    let last = turns.last().ok_or_else(|| format!("field `{name}` is empty"))?;
    Ok(Example { prompt: last.text.clone(), turns, ..Example::default() })
}

/// A list of tools, which may be held as text.
fn tools(object: &Object<'_>, name: &str) -> Result<Option<String>, String> {
    let Some(value) = field(object, name)? else { return Ok(None) };
    let text = match serde_json::from_str::<Value>(value.get()) {
        Ok(Value::String(text)) => text,
        _ => value.get().to_owned(),
    };
    match serde_json::from_str::<Vec<&RawValue>>(&text) {
        Ok(tools) if tools.is_empty() => Ok(None),
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(format!("field `{name}` must be a list of tools: {error}")),
    }
}
