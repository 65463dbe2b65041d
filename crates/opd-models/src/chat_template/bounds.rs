//! What a value may stand for before it is written out.

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    formatting::{FormatStyle, format},
    value::{Rest, ValueKind, ValueOrKwargs},
};

use super::guards::{HELD, KEPT, WRITTEN};

/// Most bytes of one value as a text.
pub(super) const LONGEST: usize = 16 << 20;

/// Nesting of values.
const DEPTH: usize = 128;

/// What each value counts beside its text, in bytes.
const NODE: usize = 16;

/// Bytes that the engine gives for one step.
const PER_STEP: usize = 64;

/// A text of at most [`LONGEST`] bytes.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn push(&mut self, text: &str) -> Result<(), Error> {
        if self.0.len() + text.len() > LONGEST {
            return Err(too_long());
        }
        self.0.push_str(text);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char) -> Result<(), Error> {
        self.push(c.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

pub(super) fn error(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

pub(super) fn too_long() -> Error {
    error(format!("a value stands for more than {LONGEST} bytes of text"))
}

pub(super) fn depth(depth: usize) -> Result<(), Error> {
    match depth > DEPTH {
        true => Err(error(format!("a value is nested more than {DEPTH} deep"))),
        false => Ok(()),
    }
}

/// Adds the filters of checked templates, and replaces what writes values unchecked.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter(WRITTEN, written);
    environment.add_filter(KEPT, kept);
    environment.add_filter(HELD, held);
    environment.add_filter("format", printf);
    environment.remove_filter("pprint");
    environment.remove_global("debug");
    let ends = |f: fn(&str, &str) -> bool| {
        move |a: Value, b: Value| a.as_str().zip(b.as_str()).is_some_and(|(a, b)| f(a, b))
    };
    environment.add_test("startingwith", ends(|a, b| a.starts_with(b)));
    environment.add_test("endingwith", ends(|a, b| a.ends_with(b)));
}

/// Charges what a value would be as a text; an error if that is too much.
pub(super) fn written(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    charge(state, &value, 0)?;
    Ok(value)
}

/// The same for the value of a variable.
fn kept(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    charge(state, &value, 0)?;
    made(value)
}

/// The same for a value of a namespace, one level deeper.
fn held(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    charge(state, &value, 1)?;
    made(value)
}

/// What would be made anew each time that it is read is made once: there are no chains of it.
fn made(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Iterable => Ok(value.try_iter()?.collect::<Vec<Value>>().into()),
        _ => Ok(value),
    }
}

fn printf(state: &State<'_, '_>, text: Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let text = text.as_str().ok_or_else(|| error("format: the format must be a text"))?;
    formatted(state, FormatStyle::Printf, text, &args.into_values())
}

fn charge(state: &State<'_, '_>, value: &Value, level: usize) -> Result<(), Error> {
    if value.as_object().is_none() {
        return Ok(());
    }
    let mut size = 0;
    walk(value, level, &mut size)?;
    state.consume_fuel((size / PER_STEP) as u64)
}

/// Adds what a value stands for, items that are shared each time.
fn walk(value: &Value, level: usize, size: &mut usize) -> Result<(), Error> {
    depth(level)?;
    *size += NODE + value.as_str().map_or(0, str::len);
    if *size > LONGEST {
        return Err(too_long());
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.try_for_each(|item| walk(&item, level + 1, size))
        }
        ValueKind::Map => {
            if level > 0 && is_namespace(value) {
                return Err(error("a namespace cannot be kept within another value"));
            }
            value.try_iter()?.try_for_each(|key| {
                walk(&key, level + 1, size)?;
                walk(&value.get_item(&key)?, level + 1, size)
            })
        }
        _ => Ok(()),
    }
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// A format that is filled, with the widths that it asks for held against [`LONGEST`] first.
pub(super) fn formatted(
    state: &State<'_, '_>,
    style: FormatStyle,
    text: &str,
    args: &[Value],
) -> Result<String, Error> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
    let stated = numbers.try_fold(1, |most: usize, run| Some(most.max(run.parse().ok()?)));
    // A width may be an argument.
    let given = args.iter().filter_map(|arg| i128::try_from(arg.clone()).ok());
    let given = given.map(|n| usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX)).max();
    let nested = text.contains('*') || text.split('{').skip(1).any(|part| !part.contains('}'));
    let width = stated.map(|stated| stated.max(given.filter(|_| nested).unwrap_or(0)));
    let mut size = text.len();
    for arg in args {
        charge(state, arg, 0)?;
        walk(arg, 0, &mut size)?;
    }
    let places = text.matches(['{', '%']).count();
    let longest = width.and_then(|width| places.checked_mul(width.max(size)));
    if longest.is_none_or(|longest| longest > LONGEST) {
        return Err(too_long());
    }
    format(style, text, args)
}
