//! Runs of rows, each made once: a directory that holds the result is not made again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use opd_pocket::Layout;
use opd_train::{
    Job, Outcome,
    config::TrainConfig,
    run::{Existing, Metrics, RunDir, Summary, key},
};

use crate::rows::Row;

/// The bundled job as `opd train` has it.
const DEFAULT_JOB: &str = include_str!("../../crates/opd-cli/src/train/default_job.toml");

/// What a run came to.
pub(crate) struct Made {
    pub(crate) summary: Summary,
    /// Response tokens that it was trained on.
    pub(crate) tokens: f64,
    /// Response tokens trained on so far, and pass@1 on validation prompts.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// The settings of a row's run on inputs in `inputs`.
pub(crate) fn config(
    row: &Row,
    seed: u64,
    steps: Option<u64>,
    inputs: &Layout,
) -> Result<TrainConfig> {
    let mut config: TrainConfig = toml::from_str(DEFAULT_JOB)?;
    for path in config.paths_mut() {
        let name = path.to_str().and_then(|path| path.strip_prefix("bundled:"));
        *path = match name {
            Some("student") => inputs.student.clone(),
            Some("teacher") => inputs.teacher.clone(),
            Some("train.jsonl") => inputs.train.clone(),
            Some("validation.jsonl") => inputs.validation.clone(),
            Some("test.jsonl") => inputs.test.clone(),
            _ => continue,
        };
    }
    (config.name, config.seed) = (row.slug.to_owned(), seed);
    config.steps = steps.unwrap_or(config.steps);
    config.optimizer.lr = row.lr;
    (row.change)(&mut config);
    // One run is enough to know how good the teacher is.
    config.evaluation.teacher = config.evaluation.teacher && row.slug == "opd" && seed == 0;
    config.validate().with_context(|| format!("row {}", row.slug))?;
    Ok(config)
}

/// The result of a run in `dir`, which is made, taken up again or only read.
pub(crate) fn make(config: &TrainConfig, dir: &Path) -> Result<Made> {
    let path = std::path::absolute(dir)?;
    let job = match same_settings(config, &path) {
        true if Summary::read(&path)?.is_some() => return read(config, &path),
        true => Job::resume(RunDir::resume(&path)?, &Device::Cpu)?,
        false => {
            let dir = RunDir::create(&path, Existing::Overwrite)?;
            Job::create(config.clone(), dir, &Device::Cpu)?
        }
    };
    let outcome = job.run(&mut ())?;
    ensure!(matches!(outcome, Outcome::Finished(_)), "{} was interrupted", path.display());
    read(config, &path)
}

/// Whether `run` holds a run of these settings, finished or not.
fn same_settings(config: &TrainConfig, run: &Path) -> bool {
    let stored = fs::read_to_string(run.join("config.toml")).ok();
    let stored = stored.and_then(|text| toml::from_str::<TrainConfig>(&text).ok());
    stored.zip(config.stored_in(run).ok()).is_some_and(|(stored, config)| stored == config)
}

fn read(config: &TrainConfig, run: &Path) -> Result<Made> {
    let summary = Summary::read(run)?.with_context(|| format!("{}", run.display()))?;
    let metrics = Metrics::read(&run.join("metrics.jsonl"))?;
    let responses = (config.rollout.prompts * config.rollout.samples_per_prompt) as f64;
    let mut tokens = 0.0;
    let mut curve = Vec::new();
    for line in &metrics {
        tokens += responses * line.get(key::RESPONSE_LENGTH_MEAN).unwrap_or(0.0);
        curve.extend(line.get(key::PASS_AT_1).map(|pass_at_1| (tokens, pass_at_1)));
    }
    Ok(Made { summary, tokens, curve })
}

/// The directory of a row's run.
pub(crate) fn dir(out: &Path, row: &Row, seed: u64) -> PathBuf {
    out.join(format!("{}-{seed}", row.slug))
}
