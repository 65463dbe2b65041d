//! Paths that start with `bundled:` stand for the models and prompts inside the program.

use std::path::Path;

use opd_pocket::Layout;
use opd_train::config::TrainConfig;

use crate::failure::Failure;

/// What marks a bundled path.
const PREFIX: &str = "bundled:";

/// Where a run keeps its bundled inputs.
pub(super) const INPUTS: &str = "inputs";

const NAMES: [&str; 6] =
    ["student", "teacher", "pairs_teacher", "train.jsonl", "validation.jsonl", "test.jsonl"];

/// The part of a path after `bundled:`, if it is one.
pub(super) fn name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PREFIX)
}

/// Passes if every bundled path names something that is bundled.
pub(super) fn check(config: &TrainConfig) -> anyhow::Result<()> {
    for path in config.clone().paths_mut() {
        if let Some(name) = name(path).filter(|name| !NAMES.contains(name)) {
            let known = NAMES.map(|name| format!("{PREFIX}{name}")).join(", ");
            return Err(Failure::usage(format!(
                "{PREFIX}{name} is not bundled; there are {known}"
            )));
        }
    }
    Ok(())
}

/// Writes bundled inputs below `run` if any is used, and puts their paths in place.
pub(crate) fn place(config: &mut TrainConfig, run: &Path) -> anyhow::Result<()> {
    if config.paths_mut().all(|path| name(path).is_none()) {
        return Ok(());
    }
    let layout = opd_pocket::materialize(&run.join(INPUTS))?;
    for path in config.paths_mut() {
        let placed = name(path).and_then(|name| placed(&layout, name)).map(Path::to_owned);
        if let Some(placed) = placed {
            *path = placed;
        }
    }
    Ok(())
}

fn placed<'a>(layout: &'a Layout, name: &str) -> Option<&'a Path> {
    let Layout { student, teacher, pairs_teacher, train, validation, test } = layout;
    let places = [student, teacher, pairs_teacher, train, validation, test];
    NAMES.iter().zip(places).find(|(held, _)| **held == name).map(|(_, place)| place.as_path())
}
