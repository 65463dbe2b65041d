//! The flags of `opd train`, one file per part of the configuration.

mod checkpoints;
mod data;
mod distillation;
mod evaluation;
mod given;
mod help;
mod keys;
mod objective;
mod optimizer;
mod parse;
mod rollout;
mod run;
mod sft;

use clap::Args;
use opd_train::config::TrainConfig;

use self::{
    checkpoints::CheckpointFlags, data::DataFlags, distillation::DistillationFlags,
    evaluation::EvaluationFlags, objective::ObjectiveFlags, optimizer::OptimizerFlags,
    rollout::RolloutFlags, sft::SftFlags,
};
pub(crate) use self::{
    given::given, help::with_keys_and_defaults, keys::flag_of, parse::positive, run::RunFlags,
};
use crate::compute::Compute;

/// Train a student on its own answers, scored by a teacher
///
/// Without a model, data or distillation flag and without --config this runs the bundled
/// default job: a small student that sorts digits learns from its teacher. Settings come from
/// defaults, then the --config file, then flags; [brackets] name a flag's key in the file and
/// its default. --print-config shows what they come to.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    opd train                                the bundled default job\n  \
    opd train --loss reverse_kl              the same with the whole-vocabulary loss\n  \
    opd train --print-config > job.toml      its settings as a file, to edit\n  \
    opd train --config job.toml --seed 1     a run of that file\n  \
    opd train --resume runs/pocket-1         go on after an interruption\n  \
    opd train --hf-checkpoint STUDENT --prompt-data prompts.jsonl --steps 500 \\\n      \
    --use-opd --opd-type in-process --opd-teacher-load TEACHER")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) run: RunFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    distillation: DistillationFlags,
    #[command(flatten)]
    rollout: RolloutFlags,
    #[command(flatten)]
    objective: ObjectiveFlags,
    #[command(flatten)]
    sft: SftFlags,
    #[command(flatten)]
    optimizer: OptimizerFlags,
    #[command(flatten)]
    evaluation: EvaluationFlags,
    #[command(flatten)]
    checkpoints: CheckpointFlags,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

impl TrainArgs {
    /// Whether the run is the user's own, by a flag that names a model, data or a teacher.
    pub(crate) fn names_own_job(&self) -> bool {
        self.data.any() || self.distillation.any()
    }

    /// Puts the flags' values over those of a file or of the defaults.
    pub(crate) fn apply(&self, config: &mut TrainConfig) -> anyhow::Result<()> {
        self.run.apply(config);
        self.data.apply(config);
        self.distillation.apply(&mut config.distillation)?;
        self.rollout.apply(&mut config.rollout);
        self.objective.apply(&mut config.objective);
        self.sft.apply(&mut config.sft);
        self.optimizer.apply(&mut config.optimizer);
        self.evaluation.apply(&mut config.evaluation);
        self.checkpoints.apply(config);
        Ok(())
    }
}

/// A given flag's value replaces the one that is there.
fn set<T: Clone>(to: &mut T, flag: &Option<T>) {
    if let Some(value) = flag {
        to.clone_from(value);
    }
}

/// The same where there may be none.
fn set_some<T: Clone>(to: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        to.clone_from(flag);
    }
}
