//! Paths that start with `bundled:` stand for the models and prompts inside the program.

use std::path::{Path, PathBuf};

use opd_pocket::Layout;
use opd_train::config::TrainConfig;

use crate::failure::Failure;

/// What marks a bundled path.
const PREFIX: &str = "bundled:";

/// Where a run keeps its bundled inputs.
pub(super) const INPUTS: &str = "inputs";

const NAMES: [&str; 5] = ["student", "teacher", "train.jsonl", "validation.jsonl", "test.jsonl"];

/// The part of a path after `bundled:`, if it is one.
pub(super) fn name(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(PREFIX)
}

/// Passes if every bundled path names something that is bundled.
pub(super) fn check(config: &TrainConfig) -> anyhow::Result<()> {
    for path in paths(&mut config.clone()) {
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
pub(super) fn place(config: &mut TrainConfig, run: &Path) -> anyhow::Result<()> {
    if paths(config).iter().all(|path| name(path).is_none()) {
        return Ok(());
    }
    let layout = opd_pocket::materialize(&run.join(INPUTS))?;
    for path in paths(config) {
        let placed = name(path).and_then(|name| placed(&layout, name)).map(Path::to_owned);
        if let Some(placed) = placed {
            *path = placed;
        }
    }
    Ok(())
}

/// Paths hold wherever the run is resumed from.
pub(super) fn make_absolute(config: &mut TrainConfig) -> anyhow::Result<()> {
    for path in paths(config) {
        *path = std::path::absolute(&path)?;
    }
    Ok(())
}

fn placed<'a>(layout: &'a Layout, name: &str) -> Option<&'a Path> {
    let Layout { student, teacher, train, validation, test } = layout;
    let places = [student, teacher, train, validation, test];
    NAMES.iter().zip(places).find(|(held, _)| **held == name).map(|(_, place)| place.as_path())
}

/// Every path that a configuration reads from.
fn paths(config: &mut TrainConfig) -> Vec<&mut PathBuf> {
    let data = &mut config.data;
    let teacher = config.distillation.as_mut().and_then(|d| d.teacher.as_mut());
    [&mut config.student.path, &mut data.train]
        .into_iter()
        .chain(data.validation.as_mut())
        .chain(data.test.as_mut())
        .chain(teacher)
        .collect()
}
