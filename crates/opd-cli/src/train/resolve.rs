use std::path::Path;

use opd_train::config::{ConfigError, TrainConfig};

use crate::{
    config,
    failure::Failure,
    flags::{Defaults, TrainArgs, flag_of},
    train::{bundled, preflight},
};

/// The settings of the bundled job.
const DEFAULT_JOB: &str = include_str!("default_job.toml");

/// The settings of the bundled job, read.
pub(crate) fn default_job() -> anyhow::Result<TrainConfig> {
    config::parse("default_job.toml", DEFAULT_JOB)
}

/// What slime does where a command line says nothing.
const SLIME_DEFAULTS: &str = include_str!("slime_defaults.toml");

/// The settings of a command line of slime's that says nothing.
pub(crate) fn slime_defaults() -> anyhow::Result<TrainConfig> {
    config::parse("slime_defaults.toml", SLIME_DEFAULTS)
}

/// Defaults, then the file, then the flags; all that can be known to be wrong is refused.
pub(crate) fn resolve(args: &TrainArgs) -> anyhow::Result<TrainConfig> {
    let mut config = settings(args)?;
    check_name(&config.name)?;
    validate(&config)?;
    bundled::check(&config)?;
    for model in config.models_mut() {
        *model = opd_models::resolve(&*model)?;
    }
    preflight::check(&config)?;
    Ok(config)
}

/// Defaults, then the file, then the flags.
pub(crate) fn settings(args: &TrainArgs) -> anyhow::Result<TrainConfig> {
    let mut config = match &args.run.config {
        Some(path) => config::load(path)?,
        None if args.run.defaults == Some(Defaults::Slime) => slime_defaults()?,
        None if args.names_own_job()? => TrainConfig::default(),
        None => default_job()?,
    };
    args.apply(&mut config)?;
    if config.name.is_empty() {
        config.name = name_of(&config.student.path);
    }
    Ok(config)
}

/// Passes if every setting is in its range and nothing is refused.
pub(crate) fn validate(config: &TrainConfig) -> anyhow::Result<()> {
    config.validate().map_err(|error| Failure::usage(with_flag(&error)))
}

/// The student's directory names a run that has no name.
fn name_of(student: &Path) -> String {
    let name = student.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "run".to_owned())
}

fn check_name(name: &str) -> anyhow::Result<()> {
    if name.contains(['/', '\\']) || name == ".." {
        return Err(Failure::usage(format!(
            "--name {name}: it names a directory, runs/{name}-N, and may hold no / or \\"
        )));
    }
    Ok(())
}

fn with_flag(error: &ConfigError) -> String {
    let key = match error {
        ConfigError::Range { key, .. } | ConfigError::Missing { key, .. } => key,
        _ => return error.to_string(),
    };
    let text = error.to_string();
    match flag_of(key) {
        Some(flag) if !text.contains(&flag) => format!("{text} (flag {flag})"),
        _ => text,
    }
}
