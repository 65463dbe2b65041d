use std::{ffi::OsString, fs, path::Path};

use opd_train::{
    Job,
    config::TrainConfig,
    run::{Existing, RunDir},
};

use crate::{
    check_teacher::check_servers,
    flags::TrainArgs,
    lint,
    train::{bundled, drive},
};

/// Runs without `--output` are kept here.
const RUNS: &str = "runs";

/// A new run.
pub(super) fn start(args: &TrainArgs, mut config: TrainConfig) -> anyhow::Result<()> {
    if !args.compute.quiet {
        lint::warn(&config);
    }
    let run = directory(args, &config)?;
    let shown = run.path().to_owned();
    if !args.compute.quiet {
        eprintln!("run directory: {}", shown.display());
    }
    let dir = shown.clone();
    let check = |config: &TrainConfig, device: &_| match args.run.skip_teacher_check {
        true => Ok(()),
        false => check_servers(config, device, args.compute.quiet),
    };
    let create = |device: &_| {
        let created = bundled::place(&mut config, &dir)
            .and_then(|()| check(&config, device))
            .and_then(|()| Ok(Job::create(config, run, device)?));
        if created.is_err() && args.run.output.is_none() {
            remove_stillborn(&dir);
        }
        created
    };
    drive(create, &shown, args)
}

fn directory(args: &TrainArgs, config: &TrainConfig) -> anyhow::Result<RunDir> {
    let existing = if args.run.overwrite { Existing::Overwrite } else { Existing::Refuse };
    match &args.run.output {
        Some(path) => Ok(RunDir::create(path, existing)?),
        None => Ok(RunDir::create_numbered(Path::new(RUNS), &config.name)?),
    }
}

/// Removes a directory of ours in which nothing has happened yet.
fn remove_stillborn(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    if names.iter().all(|name| name == "lock" || name == bundled::INPUTS) {
        // A leftover directory is a nuisance, not another error to report.
        let _ = fs::remove_dir_all(dir);
    }
}
