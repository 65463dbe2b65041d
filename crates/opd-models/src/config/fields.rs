use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result, Rope};

/// Largest size that a config may ask for, before any allocation.
const LARGEST: u64 = 1 << 26;

/// The fields of a JSON object, read with the type that they must have.
pub(crate) struct Fields<'a> {
    pub(crate) path: &'a Path,
    pub(crate) json: Map<String, Value>,
}

impl Fields<'_> {
    pub(crate) fn bad<T>(&self, what: String) -> Result<T> {
        Err(Error::Config { path: PathBuf::from(self.path), what })
    }

    /// A field that is there and not null.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.json.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn size(&self, name: &str) -> Result<usize> {
        match self.optional_size(name)? {
            Some(value) => Ok(value),
            None => self.bad(format!("field `{name}` is missing")),
        }
    }

    pub(crate) fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST).contains(&size) => Ok(Some(size as usize)),
            _ => self
                .bad(format!("`{name}` must be a whole number from 1 to {LARGEST}, got {value}")),
        }
    }

    pub(crate) fn positive(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => self.bad(format!("`{name}` must be a number above 0, got {value}")),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => self.bad(format!("`{name}` must be true or false, got {value}")),
        }
    }

    pub(crate) fn token_ids(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let ids = list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
        match ids.collect() {
            Some(ids) => Ok(Some(ids)),
            None => self.bad(format!("`{name}` must be a token id or a list of them, got {value}")),
        }
    }

    /// Numbers of layers, below `n_layers`.
    pub(crate) fn layers(&self, name: &str, n_layers: usize) -> Result<Vec<usize>> {
        let Some(value) = self.value(name) else { return Ok(Vec::new()) };
        let layer = |value: &Value| {
            value.as_u64().filter(|&layer| layer < n_layers as u64).map(|layer| layer as usize)
        };
        match value.as_array().and_then(|values| values.iter().map(layer).collect()) {
            Some(layers) => Ok(layers),
            None => self.bad(format!("`{name}` must list layers below {n_layers}, got {value}")),
        }
    }

    /// Base and scaling of the rotary frequencies: `rope_scaling` or else `rope_parameters`, as
    /// transformers 5 has it.
    pub(crate) fn rope(&self, context: usize, head_dim: usize) -> Result<(f64, Rope)> {
        let empty = Map::new();
        let scaling = match self.value("rope_scaling").or_else(|| self.value("rope_parameters")) {
            None => &empty,
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                return self.bad(format!("rope settings must be an object, got {other}"));
            }
        };
        if let Some((kind, _)) = scaling.iter().find(|(_, value)| value.is_object()) {
            return self
                .bad(format!("rope settings by kind of layer (`{kind}`) are not supported"));
        }
        let theta = match scaling.get("rope_theta") {
            None => self.positive("rope_theta")?.unwrap_or(10_000.0),
            Some(theta) => match theta.as_f64() {
                Some(number) if number > 0.0 => number,
                _ => {
                    return self.bad(format!("`rope_theta` must be a number above 0, got {theta}"));
                }
            },
        };
        let partial = scaling.get("partial_rotary_factor").or(self.value("partial_rotary_factor"));
        if let Some(other) = partial.filter(|factor| factor.as_f64() != Some(1.0)) {
            return self.bad(format!("partial_rotary_factor must be 1, got {other}"));
        }
        let original = self.optional_size("original_max_position_embeddings")?;
        match Rope::from_json(scaling, original, context) {
            Ok(rope) if rope.is_finite(theta, head_dim) => Ok((theta, rope)),
            Ok(_) => self.bad("the rope settings give frequencies that are not finite".to_owned()),
            Err(what) => self.bad(what),
        }
    }
}

/// The object that the content of a file is.
pub(crate) fn object_of(path: &Path, content: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(content) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::Config { path: path.into(), what: "expected a JSON object".into() }),
        Err(error) => Err(Error::Config { path: path.into(), what: error.to_string() }),
    }
}
