use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use opd_train::config::{FrozenWeights, Precision};
use serde::Serialize;

use crate::config::choices;

/// Whose defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Defaults {
    Opd,
    Slime,
}

/// Greatest integer of a TOML file.
const LARGEST: u64 = i64::MAX as u64;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Run")]
pub(crate) struct RunFlags {
    /// Read settings from this TOML file; flags win over it, and its paths start from the current
    /// directory, or else from the file's
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Directory of the run: configuration, metrics, checkpoints, report, final model
    /// [default: the first free runs/NAME-N]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) output: Option<PathBuf>,
    /// Replace the run that is in --output
    #[arg(long, requires = "output")]
    #[serde(skip)]
    pub(crate) overwrite: bool,
    /// If --output holds a run of these very settings, go on with it
    #[arg(long = "continue", requires = "output", conflicts_with_all = ["overwrite", "resume"])]
    #[serde(skip)]
    pub(crate) go_on: bool,
    /// What settings have that neither a flag nor a file gives: `slime` for those of slime and
    /// Megatron; one of slime's command lines (with --num-rollout or --num-epoch) has these
    /// [default: opd]
    #[arg(long, value_name = "OF", conflicts_with = "config")]
    #[serde(skip)]
    pub(crate) defaults: Option<Defaults>,
    /// Go on with the run in this directory from its last good checkpoint; only --device,
    /// --threads and --quiet may be given with it
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,
    /// Do not check servers (see `opd check-teacher`) before the first step
    #[arg(long)]
    #[serde(skip)]
    pub(crate) skip_teacher_check: bool,
    /// Print the settings that the run would have, as TOML, and leave
    #[arg(long)]
    #[serde(skip)]
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
    /// What matrix products of all models take of their operands: `bf16` rounds them;
    /// weights, gradients and optimizer are f32 in either
    #[arg(long, value_name = "NAME", value_parser = choices::<Precision>())]
    precision: Option<Precision>,
    /// How weights that are not trained are held, on the CPU: `stored`, as their file has them; `f32`;
    /// or `auto`, as `stored` for teachers and start policies, as `f32` below adapters; results are the
    /// same
    #[arg(long, value_name = "NAME", value_parser = choices::<FrozenWeights>())]
    frozen_weights: Option<FrozenWeights>,
}
