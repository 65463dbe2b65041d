//! Python's methods of texts, lists and maps, with what they would make held against the bounds first.

use minijinja::{Error, State, Value, formatting::FormatStyle};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::bounds::{LONGEST, error, formatted, too_long, written};

/// Bytes of an item in a list.
const ITEM: usize = 64;

/// Calls a method.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, method, args);
    };
    let size = match (method, args) {
        ("format", args) => {
            return formatted(state, FormatStyle::StrFormat, text, args).map(Value::from);
        }
        ("join", [values]) => {
            let values = written(state, values.clone())?;
            let joints = values.try_iter()?.count().saturating_sub(1);
            joints.checked_mul(text.len())
        }
        ("replace", [old, new, ..]) => {
            let [Some(old), Some(new)] = [old.as_str(), new.as_str()] else {
                return Err(error("replace: what is replaced, and by what, must be texts"));
            };
            let most = text.len() / old.len().max(1) + 1;
            let size = most.checked_mul(new.len());
            match size.is_some_and(|size| size <= LONGEST) {
                true => size,
                false => text.matches(old).count().checked_mul(new.len()),
            }
        }
        ("split", [separator, ..]) => match separator.as_str() {
            Some(separator) => text.matches(separator).count().checked_mul(ITEM),
            None => text.split_whitespace().count().checked_mul(ITEM),
        },
        ("split", []) => text.split_whitespace().count().checked_mul(ITEM),
        ("splitlines", _) => text.lines().count().checked_mul(ITEM),
        _ => Some(0),
    };
    match size {
        Some(size) if size <= LONGEST => unknown_method_callback(state, value, method, args),
        _ => Err(too_long()),
    }
}
