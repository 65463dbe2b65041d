//! Values as Python writes them.

use std::borrow::Cow;

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};

use super::bounds::{self, Text};

/// `str(value)`; an error where it is longer than [`super::bounds::LONGEST`].
pub(super) fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => Ok("".into()),
        (_, Some(text)) => Ok(text.into()),
        _ => {
            let mut out = Text::default();
            repr(value, 0, &mut out)?;
            Ok(out.into_string().into())
        }
    }
}

/// `repr(value)`.
fn repr(value: &Value, depth: usize, out: &mut Text) -> Result<(), Error> {
    bounds::depth(depth)?;
    match value.kind() {
        ValueKind::None => out.push("None"),
        ValueKind::Bool => out.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push("[")?;
            for (i, item) in value.try_iter()?.enumerate() {
                out.push(if i > 0 { ", " } else { "" })?;
                repr(&item, depth + 1, out)?;
            }
            out.push("]")
        }
        ValueKind::Map => {
            out.push("{")?;
            for (i, key) in value.try_iter()?.enumerate() {
                out.push(if i > 0 { ", " } else { "" })?;
                repr(&key, depth + 1, out)?;
                out.push(": ")?;
                repr(&value.get_item(&key).unwrap_or_default(), depth + 1, out)?;
            }
            out.push("}")
        }
        _ => out.push(&value.to_string()),
    }
}

/// A text in quotes: double ones where it has single ones alone.
fn quoted(text: &str, out: &mut Text) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => out.push("\\n"),
            '\r' => out.push("\\r"),
            '\t' => out.push("\\t"),
            '\\' => out.push("\\\\"),
            c => {
                out.push(if c == quote { "\\" } else { "" })?;
                out.push_char(c)
            }
        }?;
    }
    out.push_char(quote)
}

/// A number: a float with the fewest digits, in scientific form below 1e-4 and from 1e16 on.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(x) = f64::try_from(value.clone()) else { return value.to_string() };
    let size = x.abs();
    if x == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{x:?}");
    }
    if !x.is_finite() {
        return if x.is_nan() {
            "NaN"
        } else if x > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .into();
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// `json.dumps(value, ensure_ascii=False)`, as transformers has the filter `tojson`.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let flag = |name| options.get::<Option<bool>>(name).map(|flag| flag.unwrap_or(false));
    let (ascii, sorted) = (flag("ensure_ascii")?, flag("sort_keys")?);
    let indent = options.get::<Option<usize>>("indent")?.map(|n| n.min(64));
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    let (comma, colon) = match separators.as_deref() {
        Some([comma, colon]) => (comma.clone(), colon.clone()),
        _ if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        _ => (", ".to_owned(), ": ".to_owned()),
    };
    let mut out = Text::default();
    Json { ascii, sorted, indent, comma, colon }.write(value, 0, &mut out)?;
    Ok(out.into_string())
}

struct Json {
    ascii: bool,
    sorted: bool,
    indent: Option<usize>,
    comma: String,
    colon: String,
}

impl Json {
    fn write(&self, value: &Value, depth: usize, out: &mut Text) -> Result<(), Error> {
        bounds::depth(depth)?;
        match value.kind() {
            ValueKind::None => out.push("null"),
            ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                self.between(["[", "]"], value.try_iter()?, depth, out, |item, out| {
                    self.write(&item, depth + 1, out)
                })
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.between(["{", "}"], keys.into_iter(), depth, out, |key, out| {
                    match key.as_str() {
                        Some(key) => self.string(key, out),
                        None => {
                            let mut written = Text::default();
                            self.write(&key, depth + 1, &mut written)?;
                            self.string(&written.into_string(), out)
                        }
                    }?;
                    out.push(&self.colon)?;
                    self.write(&value.get_item(&key)?, depth + 1, out)
                })
            }
            _ => {
                let what = "tojson: a value that is not defined cannot be written";
                Err(Error::new(ErrorKind::InvalidOperation, what))
            }
        }
    }

    /// Items in brackets, each on a line of its own where there is an indent.
    fn between(
        &self,
        [open, close]: [&str; 2],
        items: impl Iterator<Item = Value>,
        depth: usize,
        out: &mut Text,
        mut item: impl FnMut(Value, &mut Text) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut Text| match self.indent {
            Some(indent) => out.push(&format!("\n{:1$}", "", indent * depth)),
            None => Ok(()),
        };
        out.push(open)?;
        let mut empty = true;
        for value in items {
            if !std::mem::take(&mut empty) {
                out.push(&self.comma)?;
            }
            line(depth + 1, out)?;
            item(value, out)?;
        }
        if !empty {
            line(depth, out)?;
        }
        out.push(close)
    }

    fn string(&self, text: &str, out: &mut Text) -> Result<(), Error> {
        out.push("\"")?;
        for c in text.chars() {
            match c {
                '"' => out.push("\\\""),
                '\\' => out.push("\\\\"),
                '\n' => out.push("\\n"),
                '\r' => out.push("\\r"),
                '\t' => out.push("\\t"),
                '\u{8}' => out.push("\\b"),
                '\u{c}' => out.push("\\f"),
                c if (c as u32) < 0x20 => out.push(&format!("\\u{:04x}", c as u32)),
                c if self.ascii && !c.is_ascii() => {
                    let mut units = [0; 2];
                    let mut units = c.encode_utf16(&mut units).iter();
                    units.try_for_each(|unit| out.push(&format!("\\u{unit:04x}")))
                }
                c => out.push_char(c),
            }?;
        }
        out.push("\"")
    }
}
