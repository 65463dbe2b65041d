use std::path::Path;

use opd_train::{
    Job,
    run::{RunDir, Summary},
};

use crate::{
    failure::Failure,
    flags::TrainArgs,
    train::{drive, table},
};

/// What may stand beside `--resume`: nothing that changes the run.
const ALLOWED: [&str; 4] = ["--resume", "--device", "--threads", "--quiet"];

/// A run that goes on; a finished one says so.
pub(super) fn resume(dir: &Path, args: &TrainArgs, given: &[String]) -> anyhow::Result<()> {
    let shown = dir.display();
    let foreign: Vec<&str> =
        given.iter().map(String::as_str).filter(|flag| !ALLOWED.contains(flag)).collect();
    if let Some(flag) = foreign.first() {
        return Err(Failure::usage(format!(
            "{flag} with --resume {shown}: a resumed run keeps the settings that it was started \
             with, and only --device, --threads and --quiet may be given; drop {}, or start \
             another run with --config {shown}/config.toml",
            foreign.join(", ")
        )));
    }
    if let Some(summary) = Summary::read(dir)? {
        if !args.compute.quiet {
            eprintln!("the run is finished: all {} steps are done", summary.steps);
        }
        return crate::records::print(&table::table(&summary, dir));
    }
    let run = RunDir::resume(dir)?;
    drive(|device| Ok(Job::resume(run, device)?), dir, args)
}
