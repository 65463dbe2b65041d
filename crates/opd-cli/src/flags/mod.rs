//! The flags of `opd train`, one file per part of the configuration.

mod checkpoints;
mod critic;
mod data;
mod distillation;
mod evaluation;
mod given;
mod help;
mod keys;
mod logging;
mod lora;
mod objective;
mod optimizer;
mod parse;
mod rollout;
mod run;
mod settings;
mod sft;

use clap::Args;
use opd_train::config::TrainConfig;
use toml::Table;

use self::{
    checkpoints::CheckpointFlags,
    critic::CriticFlags,
    data::DataFlags,
    distillation::DistillationFlags,
    evaluation::EvaluationFlags,
    logging::LoggingFlags,
    lora::LoraFlags,
    objective::ObjectiveFlags,
    optimizer::OptimizerFlags,
    rollout::RolloutFlags,
    settings::{Setting, gather, overlay, settings},
    sft::SftFlags,
};
pub(crate) use self::{
    given::given,
    help::with_keys_and_defaults,
    keys::flag_of,
    parse::positive,
    run::{Defaults, RunFlags},
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
    --use-opd --opd-type in-process --opd-teacher-load TEACHER\n\n\
    slime's command lines are understood, too: its own flags, and those of Megatron, Ray and\n\
    SGLang, are translated or answered; see docs/from-slime.md.")]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) run: RunFlags,
    #[command(flatten)]
    data: DataFlags,
    #[command(flatten)]
    lora: LoraFlags,
    #[command(flatten)]
    distillation: DistillationFlags,
    #[command(flatten)]
    rollout: RolloutFlags,
    #[command(flatten)]
    objective: ObjectiveFlags,
    #[command(flatten)]
    critic: CriticFlags,
    #[command(flatten)]
    sft: SftFlags,
    #[command(flatten)]
    optimizer: OptimizerFlags,
    #[command(flatten)]
    evaluation: EvaluationFlags,
    #[command(flatten)]
    checkpoints: CheckpointFlags,
    #[command(flatten)]
    logging: LoggingFlags,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

impl TrainArgs {
    /// Whether the run is the user's own, by a flag that names a model, data or a teacher.
    pub(crate) fn names_own_job(&self) -> anyhow::Result<bool> {
        let named = ["student.path", "student.reference", "data.", "distillation."];
        let own = |key: &str| named.iter().any(|start| key.starts_with(start));
        Ok(self.distillation.use_opd || self.settings()?.iter().any(|setting| own(setting.key)))
    }

    /// Puts the flags' values over those of a file or of the defaults.
    pub(crate) fn apply(&self, config: &mut TrainConfig) -> anyhow::Result<()> {
        let settings = self.settings()?;
        self.distillation.prepare(&mut config.distillation, &settings)?;
        self.logging.prepare(&mut config.wandb);
        overlay(config, &settings)
    }

    fn settings(&self) -> anyhow::Result<Vec<Setting>> {
        let mut given = Table::new();
        gather(&self.run, &mut given)?;
        gather(&self.data, &mut given)?;
        gather(&self.lora, &mut given)?;
        gather(&self.distillation, &mut given)?;
        gather(&self.rollout, &mut given)?;
        gather(&self.objective, &mut given)?;
        gather(&self.critic, &mut given)?;
        gather(&self.sft, &mut given)?;
        gather(&self.optimizer, &mut given)?;
        gather(&self.evaluation, &mut given)?;
        gather(&self.checkpoints, &mut given)?;
        gather(&self.logging, &mut given)?;
        if let (Some(clip), false) = (given.get("eps_clip"), given.contains_key("eps_clip_high")) {
            given.insert("eps_clip_high".to_owned(), clip.clone());
        }
        Ok(settings(given))
    }
}
