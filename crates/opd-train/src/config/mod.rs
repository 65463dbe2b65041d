//! What a run is to do: plain structs, one per part, as the TOML file has them.

mod checkpoints;
mod client;
mod data;
mod distillation;
mod error;
mod evaluation;
mod frozen_weights;
mod lora;
mod mix;
mod objective;
mod optimizer;
mod paths;
mod precision;
mod reward;
mod rollout;
mod sft;
mod stop;
mod student;
mod teacher;
mod teacher_kind;
mod wandb;

use serde::{Deserialize, Serialize};

use crate::lint::lint;

pub use self::{
    checkpoints::CheckpointConfig,
    client::ClientConfig,
    data::DataConfig,
    distillation::DistillationConfig,
    error::ConfigError,
    evaluation::EvaluationConfig,
    frozen_weights::FrozenWeights,
    lora::LoraConfig,
    mix::{MixBy, MixConfig},
    objective::{
        AggregationKind, BaselineKind, ClipConfig, CorrectionConfig, CorrectionGrain,
        CorrectionKind, CriticConfig, CriticKind, EstimatorKind, KlKind, LossKind, ObjectiveConfig,
        OldLogprobs, SupportKind, TailKind, TruncatedKind,
    },
    optimizer::{OptimizerConfig, Schedule},
    precision::Precision,
    reward::{RewardConfig, RewardKind},
    rollout::{ResponseSource, RolloutConfig},
    sft::SftConfig,
    stop::{StopAction, StopConfig},
    student::StudentConfig,
    teacher::TeacherConfig,
    teacher_kind::TeacherKind,
    wandb::WandbConfig,
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
    /// Of every model in this process.
    pub precision: Precision,
    /// Of every model in this process that is not trained.
    pub frozen_weights: FrozenWeights,
    /// The model that is trained.
    pub student: StudentConfig,
    /// Prompt files.
    pub data: DataConfig,
    /// How the student is sampled.
    pub rollout: RolloutConfig,
    /// Who judges responses.
    pub reward: RewardConfig,
    /// The teacher; without it there is no distillation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationConfig>,
    /// Several teachers, instead of one in `distillation`.
    #[serde(rename = "teacher", skip_serializing_if = "Vec::is_empty")]
    pub teachers: Vec<TeacherConfig>,
    /// Advantages and loss.
    pub objective: ObjectiveConfig,
    /// Supervised fine-tuning that is mixed in.
    pub sft: SftConfig,
    /// AdamW and its schedule.
    pub optimizer: OptimizerConfig,
    /// Held-out prompts.
    pub evaluation: EvaluationConfig,
    /// What is kept on the way.
    pub checkpoints: CheckpointConfig,
    /// When something looks wrong.
    pub stop: StopConfig,
    /// An offline run of Weights & Biases beside the other metrics; none without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wandb: Option<WandbConfig>,
}

impl TrainConfig {
    /// Whether the start policy has to be kept.
    pub fn needs_reference(&self) -> bool {
        let extrapolates =
            self.distillation.as_ref().is_some_and(|teacher| teacher.extrapolation != 1.0);
        self.objective.kl_loss_coef != 0.0
            || self.objective.kl_coef != 0.0
            || (extrapolates && self.objective.loss.is_policy())
    }

    /// The power of the ratio that weighs the distillation signal, where the loss reads it.
    pub(crate) fn read_prefix_ratio(&self) -> Option<f32> {
        let loss = self.objective.loss;
        let power = self.distillation.as_ref()?.prefix_ratio as f32;
        (power != 0.0 && loss.is_policy() && loss != LossKind::MiniLlm).then_some(power)
    }

    /// Passes if every setting is in its range and [`lint`] refuses nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the setting, its range, its value and the remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        error::at_least_one("steps", self.steps)?;
        self.student.validate()?;
        self.data.validate()?;
        self.rollout.validate()?;
        match &self.distillation {
            Some(distillation) => distillation.validate(&self.teachers)?,
            None if !self.teachers.is_empty() => {
                let remedy = "add a [distillation] table (it may be empty) to learn from them";
                return Err(ConfigError::Conflict {
                    what: "[[teacher]] without [distillation]".into(),
                    remedy,
                });
            }
            None => {}
        }
        self.validate_remote()?;
        self.validate_writer()?;
        self.reward.validate()?;
        self.sft.validate()?;
        self.objective.validate(self.rollout.max_response_tokens)?;
        self.optimizer.validate()?;
        self.evaluation.validate()?;
        self.checkpoints.validate()?;
        match lint(self).refusals().next() {
            None => Ok(()),
            Some(finding) => {
                let what = finding.reason.clone();
                Err(ConfigError::Conflict { what, remedy: finding.remedy })
            }
        }
    }

    /// The teachers of the run, however they are named; none without distillation.
    pub fn all_teachers(&self) -> Vec<TeacherConfig> {
        match &self.distillation {
            None => Vec::new(),
            Some(_) if !self.teachers.is_empty() => self.teachers.clone(),
            Some(distillation) => vec![distillation.teacher_config()],
        }
    }

    /// What a teacher must be to write responses.
    fn validate_writer(&self) -> Result<(), ConfigError> {
        let (what, key) = match () {
            () if self.rollout.teacher_writes() => ("write responses", "rollout.responses"),
            () if self.rollout.teacher_mixed_alpha > 0.0 => {
                ("have a share in every token", "rollout.teacher_mixed_alpha")
            }
            () => return Ok(()),
        };
        let told = self.distillation.as_ref().is_some_and(DistillationConfig::tells_teacher);
        if told && self.rollout.teacher_mixed_alpha > 0.0 {
            return Err(ConfigError::Conflict {
                what: "rollout.teacher_mixed_alpha draws tokens from both models after one prompt, and distillation.prompt_key or prompt_template give them two".into(),
                remedy: "drop --teacher-mixed-alpha, or what the teacher is told",
            });
        }
        let teachers = self.all_teachers();
        let remedy = "use --use-opd --opd-type in-process --opd-teacher-load DIR, or learn from answers that were written into a file, with --responses label";
        let what = match teachers.as_slice() {
            [] => format!("the teacher is to {what} ({key}), and there is none"),
            [only] if only.kind.is_in_process() && only.tags.is_empty() => return Ok(()),
            [only] if !only.kind.is_in_process() => format!(
                "the teacher is to {what} ({key}), and a server or a journal only scores them"
            ),
            several => format!(
                "the teacher is to {what} ({key}), and there are {} [[teacher]] tables: one teacher for all prompts alone can",
                several.len()
            ),
        };
        Err(ConfigError::Conflict { what, remedy })
    }

    /// What teachers behind HTTP cannot do, as far as it is known without asking them.
    fn validate_remote(&self) -> Result<(), ConfigError> {
        let teachers = self.all_teachers();
        let top = self.objective.loss.is_top_k();
        let asked = top && self.objective.top_k_support == SupportKind::Teacher;
        let whole = self.objective.loss.compares_distributions() && !asked;
        if whole && (teachers.len() > 1 || teachers.iter().any(|t| !t.kind.is_in_process())) {
            return Err(ConfigError::Conflict {
                what: format!(
                    "the loss {:?} compares whole distributions, which one teacher in this process alone can give",
                    self.objective.loss
                ),
                remedy: "use --opd-type in-process --opd-teacher-load DIR, or a policy loss such as --loss importance_sampling",
            });
        }
        let bias = self.distillation.as_ref().is_some_and(|d| d.accept_temperature_bias);
        let t = self.rollout.temperature;
        let vllm = teachers.iter().any(|teacher| teacher.kind == TeacherKind::Vllm);
        if vllm && t != 1.0 && !bias {
            return Err(ConfigError::temperature("vllm", t));
        }
        Ok(())
    }
}
