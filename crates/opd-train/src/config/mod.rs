//! What a run is to do: plain structs, one per part, as the TOML file has them.

mod checkpoints;
mod data;
mod distillation;
mod error;
mod evaluation;
mod objective;
mod optimizer;
mod paths;
mod rollout;
mod stop;
mod student;

use serde::{Deserialize, Serialize};

pub use self::{
    checkpoints::CheckpointConfig,
    data::DataConfig,
    distillation::{DistillationConfig, TeacherKind},
    error::ConfigError,
    evaluation::EvaluationConfig,
    objective::{
        AggregationKind, ClipConfig, EstimatorKind, KlKind, LossKind, ObjectiveConfig, OldLogprobs,
    },
    optimizer::{OptimizerConfig, Schedule},
    rollout::RolloutConfig,
    stop::{StopAction, StopConfig},
    student::StudentConfig,
};

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Names the run's default directory, `runs/NAME-N`.
    pub name: String,
    /// Fixes every random choice.
    pub seed: u64,
    /// Number of rollout batches.
    pub steps: u64,
    /// The model that is trained.
    pub student: StudentConfig,
    /// Prompt files.
    pub data: DataConfig,
    /// How the student is sampled.
    pub rollout: RolloutConfig,
    /// The teacher; without it there is no distillation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationConfig>,
    /// Advantages and loss.
    pub objective: ObjectiveConfig,
    /// AdamW and its schedule.
    pub optimizer: OptimizerConfig,
    /// Held-out prompts.
    pub evaluation: EvaluationConfig,
    /// What is kept on the way.
    pub checkpoints: CheckpointConfig,
    /// When something looks wrong.
    pub stop: StopConfig,
}

impl TrainConfig {
    /// Passes if every setting is in its range and they fit together.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the setting, its range, its value and the remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        error::at_least_one("steps", self.steps)?;
        self.student.validate()?;
        self.data.validate()?;
        self.rollout.validate()?;
        if let Some(distillation) = &self.distillation {
            distillation.validate()?;
        }
        self.objective.validate(self.distillation.is_some(), self.rollout.samples_per_prompt)?;
        self.optimizer.validate()?;
        self.evaluation.validate()?;
        self.checkpoints.validate()
    }
}
