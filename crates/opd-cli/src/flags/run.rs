use std::path::PathBuf;

use clap::{Args, value_parser};
use opd_train::config::TrainConfig;

use crate::flags::set;

/// Greatest integer of a TOML file.
const LARGEST: u64 = i64::MAX as u64;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub(crate) struct RunFlags {
    /// Read settings from this TOML file; flags win over it, and its paths start from the current
    /// directory, or else from the file's
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the run: configuration, metrics, checkpoints, report, final model
    /// [default: the first free runs/NAME-N]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the run that is in --output
    #[arg(long, requires = "output")]
    pub(crate) overwrite: bool,
    /// Go on with the run in this directory from its last good checkpoint; only --device,
    /// --threads and --quiet may be given with it
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// Do not check servers (see `opd check-teacher`) before the first step
    #[arg(long)]
    pub(crate) skip_teacher_check: bool,
    /// Print the settings that the run would have, as TOML, and leave
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Name of the run
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Number of steps; each samples one batch and learns from it
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=LARGEST))]
    steps: Option<u64>,
    /// Fixes every random choice: the same seed gives the same run, bit for bit
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(..=LARGEST))]
    seed: Option<u64>,
}

impl RunFlags {
    pub(super) fn apply(&self, config: &mut TrainConfig) {
        set(&mut config.name, &self.name);
        set(&mut config.steps, &self.steps);
        set(&mut config.seed, &self.seed);
    }
}
