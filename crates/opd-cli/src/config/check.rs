use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::config::{Shape, nearest::nearest};

/// What is wrong with a file, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) span: Range<usize>,
}

/// Passes if every key of `table` is known and every value of the right type.
pub(super) fn check(table: &DeTable<'_>, shape: &Shape) -> Result<(), Fault> {
    Checker { known: shape.paths() }.table("", table, shape)
}

struct Checker {
    known: Vec<String>,
}

impl Checker {
    fn table(&self, path: &str, table: &DeTable<'_>, shape: &Shape) -> Result<(), Fault> {
        let Shape::Table(fields) = shape else { return Ok(()) };
        for (key, value) in table {
            let name: &str = key.get_ref();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match fields.iter().find(|(field, _)| *field == name) {
                None => return Err(Fault { what: self.unknown(&path), span: key.span() }),
                Some((_, shape)) => self.value(&path, value.get_ref(), shape, value.span())?,
            }
        }
        Ok(())
    }

    fn value(
        &self,
        path: &str,
        value: &DeValue<'_>,
        shape: &Shape,
        span: Range<usize>,
    ) -> Result<(), Fault> {
        let expected = match (shape, value) {
            (Shape::Table(_), DeValue::Table(table)) => return self.table(path, table, shape),
            (Shape::OneOf(names), DeValue::String(text)) if names.contains(&text.as_ref()) => {
                return Ok(());
            }
            (Shape::Integer, DeValue::Integer(number)) if !number.as_str().starts_with('-') => {
                return Ok(());
            }
            (Shape::Bool, DeValue::Boolean(_))
            | (Shape::Number, DeValue::Integer(_) | DeValue::Float(_))
            | (Shape::Text, DeValue::String(_))
            | (Shape::List, DeValue::Array(_))
            | (Shape::TextOrList, DeValue::String(_))
            | (Shape::Any, _) => return Ok(()),
            (Shape::TextOrList, DeValue::Array(items))
                if items.iter().all(|item| item.get_ref().is_str()) =>
            {
                return Ok(());
            }
            (Shape::Table(_), _) => format!("a table: write [{path}] and its keys below"),
            (Shape::OneOf(names), _) => format!("one of {}", quoted(names)),
            (Shape::Integer, _) => "a whole number of at least 0".to_owned(),
            (Shape::Bool, _) => "true or false".to_owned(),
            (Shape::Number, _) => "a number".to_owned(),
            (Shape::Text, _) => "text in quotes".to_owned(),
            (Shape::List, _) => "a list: [.., ..]".to_owned(),
            (Shape::TextOrList, _) => "text in quotes, or a list of such texts".to_owned(),
        };
        let what = format!("`{path}` must be {expected}; got {}", describe(value));
        Err(Fault { what, span })
    }

    fn unknown(&self, path: &str) -> String {
        match nearest(path, &self.known) {
            Some(nearest) => format!("unknown key `{path}`; the nearest known one is `{nearest}`"),
            None => format!("unknown key `{path}`"),
        }
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the whole number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(value) => format!("the date {value}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
