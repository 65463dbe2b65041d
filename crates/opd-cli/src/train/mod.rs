//! `opd train`: settings, run directory, job, progress, table.

mod bundled;
mod go_on;
mod preflight;
mod resolve;
mod resume;
mod start;
mod table;

use candle_core::Device;
use opd_train::{Job, Outcome};

pub(crate) use self::{
    bundled::place,
    resolve::{default_job, resolve, settings, validate},
};
use crate::{failure::Failure, flags::TrainArgs, interrupt, progress::Progress};

/// Runs the command; `given` are the flags on the command line.
pub(crate) fn train(args: &TrainArgs, given: &[String]) -> anyhow::Result<()> {
    if let Some(dir) = &args.run.resume {
        return resume::resume(dir, args, given);
    }
    let config = resolve::resolve(args)?;
    if args.run.print_config {
        return crate::records::print(&toml::to_string(&config)?);
    }
    match &args.run.output {
        Some(dir) if args.run.go_on && go_on::is_begun(&config, dir)? => {
            resume::resume(dir, args, &[])
        }
        _ => start::start(args, config),
    }
}

/// Runs a job in the directory `shown` to its end and prints the table.
fn drive(
    job: impl FnOnce(&Device) -> anyhow::Result<Job>,
    shown: &std::path::Path,
    args: &TrainArgs,
) -> anyhow::Result<()> {
    let device = args.compute.start()?;
    interrupt::watch()?;
    let mut progress = Progress::new(args.compute.quiet);
    let job = job(&device)?;
    opd_kernels::keep_freed_memory();
    let outcome = job.run(&mut progress);
    progress.clear();
    match outcome? {
        Outcome::Finished(summary) => crate::records::print(&table::table(&summary, shown)),
        Outcome::Interrupted { step } => Err(Failure::Interrupted(format!(
            "{step} steps are done and saved; go on with: opd train --resume {}",
            shown.display()
        ))
        .into()),
    }
}
