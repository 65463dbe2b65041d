//! Faults of the paths, found before a run directory is made.

use std::path::Path;

use opd_data::DataPath;
use opd_models::{ValueHead, is_model};
use opd_train::{
    config::{CriticConfig, CriticKind, DistillationConfig, TrainConfig},
    run::RunDir,
};

use crate::{failure::Failure, flags::flag_of, train::bundled};

pub(super) fn check(config: &TrainConfig) -> anyhow::Result<()> {
    let data = &config.data;
    model("student.path", &config.student.path)?;
    if let Some(distillation) = &config.distillation {
        teacher(distillation)?;
    }
    config.student.reference.as_deref().map_or(Ok(()), |dir| model("student.reference", dir))?;
    for teacher in config.all_teachers() {
        teacher.api_key().map_err(|error| Failure::usage(error.to_string()))?;
    }
    for named in &config.teachers {
        let step = named.step.is_some();
        named.path.as_deref().filter(|_| !step).map_or(Ok(()), |dir| model("teacher.path", dir))?;
    }
    let adapter = config.student.lora.as_ref().and_then(|lora| lora.adapter.as_deref());
    adapter.map_or(Ok(()), self::adapter)?;
    critic(&config.objective.critic)?;
    for path in data.train.paths() {
        file("data.train", path)?;
    }
    for path in &data.eval_sets {
        file("data.eval_sets", path)?;
    }
    for (key, path) in [
        ("data.validation", &data.validation),
        ("data.test", &data.test),
        ("sft.data", &config.sft.data),
    ] {
        path.as_deref().map_or(Ok(()), |path| file(key, path))?;
    }
    Ok(())
}

fn adapter(dir: &Path) -> anyhow::Result<()> {
    if dir.join("adapter_config.json").is_file() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} holds no adapter_config.json; name a directory of peft's, or `adapter` of a run with \
         --lora-rank",
        place("student.lora.adapter", dir)
    )))
}

fn critic(config: &CriticConfig) -> anyhow::Result<()> {
    let (key, Some(dir)) = ("objective.critic.path", &config.path) else { return Ok(()) };
    match config.kind {
        CriticKind::Model => model(key, dir),
        CriticKind::Head if dir.join(ValueHead::FILE).is_file() => Ok(()),
        CriticKind::Head => Err(Failure::usage(format!(
            "{} holds no {}; name `critic` of a run with a critic, or use --critic model",
            place(key, dir),
            ValueHead::FILE
        ))),
    }
}

fn teacher(config: &DistillationConfig) -> anyhow::Result<()> {
    let (Some(dir), step) = (&config.teacher, config.teacher_step) else { return Ok(()) };
    let Some(step) = step else { return model("distillation.teacher", dir) };
    let shown = dir.display();
    if !RunDir::is_run(dir) {
        return Err(Failure::usage(format!(
            "--opd-teacher-ckpt-step {step}: {shown} is not a run directory, which would hold \
             config.toml and checkpoints/; drop --opd-teacher-ckpt-step to take a plain model \
             directory as it is"
        )));
    }
    if RunDir::checkpoint_of(dir, step).is_dir() {
        return Ok(());
    }
    let steps = RunDir::checkpoint_steps(dir)?;
    let held: Vec<String> = steps.iter().map(u64::to_string).collect();
    let held = match held.is_empty() {
        true => "has no checkpoint".to_owned(),
        false => format!("has checkpoints of step {}", held.join(", ")),
    };
    Err(Failure::usage(format!(
        "--opd-teacher-ckpt-step {step}: {shown} {held}; choose a step that is there"
    )))
}

fn model(key: &str, dir: &Path) -> anyhow::Result<()> {
    if bundled::name(dir).is_some() || is_model(dir) {
        return Ok(());
    }
    let what = match dir {
        _ if RunDir::is_run(dir) => format!(
            "is a run directory; its final model is {}, and a checkpoint is one of {}",
            dir.join("model").display(),
            dir.join("checkpoints/step-N").display()
        ),
        _ if dir.join("adapter_config.json").is_file() => {
            "holds adapters, and no model: name the model below them, and them with --lora-adapter"
                .to_owned()
        }
        _ if dir.is_dir() => "holds no config.json: it is not a model directory".to_owned(),
        _ => "is not a directory; name one with config.json and weights".to_owned(),
    };
    Err(Failure::usage(format!("{} {what}", place(key, dir))))
}

fn file(key: &str, path: &Path) -> anyhow::Result<()> {
    let path = &DataPath::of(path).file;
    if bundled::name(path).is_some() || path.is_file() {
        return Ok(());
    }
    let what = if path.exists() { "is not a file" } else { "does not exist" };
    Err(Failure::usage(format!(
        "{} {what}; name a JSONL or Parquet file of prompts",
        place(key, path)
    )))
}

/// `--hf-checkpoint DIR (student.path):`.
fn place(key: &str, path: &Path) -> String {
    format!("{} (key {key}): {}", flag_of(key).unwrap_or_default(), path.display())
}
