//! Faults of the paths, found before a run directory is made.

use std::{fs, path::Path};

use opd_train::config::{DistillationConfig, TrainConfig};

use crate::{failure::Failure, flags::flag_of, train::bundled};

pub(super) fn check(config: &TrainConfig) -> anyhow::Result<()> {
    let data = &config.data;
    model("student.path", &config.student.path)?;
    if let Some(distillation) = &config.distillation {
        teacher(distillation)?;
    }
    file("data.train", &data.train)?;
    for (key, path) in [("data.validation", &data.validation), ("data.test", &data.test)] {
        path.as_deref().map_or(Ok(()), |path| file(key, path))?;
    }
    Ok(())
}

fn teacher(config: &DistillationConfig) -> anyhow::Result<()> {
    let (Some(dir), step) = (&config.teacher, config.teacher_step) else { return Ok(()) };
    let Some(step) = step else { return model("distillation.teacher", dir) };
    let shown = dir.display();
    if !is_run(dir) {
        return Err(Failure::usage(format!(
            "--opd-teacher-ckpt-step {step}: {shown} is not a run directory, which would hold \
             config.toml and checkpoints/; drop --opd-teacher-ckpt-step to take a plain model \
             directory as it is"
        )));
    }
    let checkpoints = dir.join("checkpoints");
    if checkpoints.join(format!("step-{step}")).is_dir() {
        return Ok(());
    }
    let held = steps(&checkpoints);
    let held = if held.is_empty() { "no checkpoint".to_owned() } else { held.join(", ") };
    Err(Failure::usage(format!(
        "--opd-teacher-ckpt-step {step}: {} holds {held}; choose a step that is there",
        checkpoints.display()
    )))
}

fn model(key: &str, dir: &Path) -> anyhow::Result<()> {
    if bundled::name(dir).is_some() || dir.join("config.json").is_file() {
        return Ok(());
    }
    let what = match dir {
        _ if is_run(dir) => format!(
            "is a run directory; its final model is {}, and a checkpoint is one of {}",
            dir.join("model").display(),
            dir.join("checkpoints/step-N").display()
        ),
        _ if dir.is_dir() => "holds no config.json: it is not a model directory".to_owned(),
        _ => "is not a directory; name one with config.json and weights".to_owned(),
    };
    Err(Failure::usage(format!("{} {what}", place(key, dir))))
}

fn file(key: &str, path: &Path) -> anyhow::Result<()> {
    if bundled::name(path).is_some() || path.is_file() {
        return Ok(());
    }
    let what = if path.exists() { "is not a file" } else { "does not exist" };
    Err(Failure::usage(format!("{} {what}; name a JSONL file of prompts", place(key, path))))
}

/// `--hf-checkpoint DIR (student.path):`.
fn place(key: &str, path: &Path) -> String {
    format!("{} (key {key}): {}", flag_of(key).unwrap_or_default(), path.display())
}

fn is_run(dir: &Path) -> bool {
    dir.join("config.toml").is_file() && dir.join("checkpoints").is_dir()
}

/// Names of the checkpoints, `step-50`, in order.
fn steps(checkpoints: &Path) -> Vec<String> {
    let entries = fs::read_dir(checkpoints).into_iter().flatten().flatten();
    let steps = entries.filter_map(|entry| {
        let name = entry.file_name().to_str()?.to_owned();
        Some((name.strip_prefix("step-")?.parse::<u64>().ok()?, name))
    });
    let mut steps: Vec<(u64, String)> = steps.collect();
    steps.sort_unstable();
    steps.into_iter().map(|(_, name)| name).collect()
}
