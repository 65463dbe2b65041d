use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result, config::object_of};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The safetensors files of a model directory: `model.safetensors`, or those that
/// `model.safetensors.index.json` names, which may lie nowhere else.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join("model.safetensors");
    let path = dir.join("model.safetensors.index.json");
    if single.exists() || !path.exists() {
        return Ok(vec![single]);
    }
    let bad = |what: String| Error::Config { path: path.clone(), what };
    let content = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
    let index: Index = serde_json::from_value(Value::Object(object_of(&path, &content)?))
        .map_err(|error| bad(error.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(bad("weight_map names no file".to_owned()));
    }
    match names.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(bad(format!("weight_map names `{name}`, which is no plain file name"))),
        None => Ok(names.into_iter().map(|name| dir.join(name)).collect()),
    }
}

/// Whether a path is the name of a file in the same directory, on any system.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let normal = matches!(components.next(), Some(Component::Normal(_)));
    normal && components.next().is_none() && !name.contains(['/', '\\', ':', '\0'])
}
