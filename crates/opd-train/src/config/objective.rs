use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{check, non_negative},
};

/// The estimator of the task's advantage, to which the distillation signal is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatorKind {
    /// No task reward: pure distillation.
    #[default]
    Zero,
    /// The reward as it is.
    RawReward,
    /// Reward within its group, over the standard deviation.
    Grpo,
    /// Reward within its group.
    DrGrpo,
    /// Leave-one-out baseline.
    Rloo,
    /// Discounted return with a KL penalty per token; whitened.
    ReinforcePlusPlus,
    /// Group-centred reward with a KL penalty per token; whitened.
    ReinforcePlusPlusBaseline,
}

/// The loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// `-ratio A`.
    #[default]
    ImportanceSampling,
    /// `-log p A`.
    Reinforce,
    /// Clipped ratio, optionally from below for negative advantages.
    PpoClip,
    /// Clipped ratio of the whole sequence.
    Gspo,
    /// Clipped ratio as a weight.
    Cispo,
    /// `KL(student || teacher)` over the whole vocabulary.
    ReverseKl,
    /// `KL(teacher || student)` over the whole vocabulary.
    ForwardKl,
    /// Generalised Jensen-Shannon divergence over the whole vocabulary.
    Jsd,
}

impl LossKind {
    /// Whether the loss compares whole distributions and reads no advantages.
    pub fn is_divergence(self) -> bool {
        matches!(self, Self::ReverseKl | Self::ForwardKl | Self::Jsd)
    }
}

/// One-sample estimate of a KL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlKind {
    /// `d`.
    #[default]
    K1,
    /// `d^2 / 2`.
    K2,
    /// `exp(-d) - 1 + d`.
    K3,
    /// `k3`, clamped.
    LowVarKl,
}

/// How the losses of tokens become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregationKind {
    /// Mean over all trained tokens of the batch.
    #[default]
    TokenMean,
    /// Mean over sequences of the mean over tokens.
    SequenceMeanTokenMean,
    /// Sum over all trained tokens.
    TokenSum,
    /// Mean over sequences of the sum over tokens, over a fixed length.
    SequenceMeanTokenSum,
}

/// Whose log-probs the ratio and the signal start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldLogprobs {
    /// The student's, computed by the trainer before the batch's first update.
    #[default]
    Recompute,
    /// The sampler's; right where sampler and trainer are one program in f32, and one forward
    /// cheaper.
    Sampler,
}

/// Bounds of the importance ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipConfig {
    /// The ratio is kept above `1 - below` (`--eps-clip`).
    pub below: f64,
    /// The ratio is kept under `1 + above` (`--eps-clip-high`).
    pub above: f64,
    /// Bound for negative advantages, above 1 (`--eps-clip-c`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual: Option<f64>,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self { below: 0.2, above: 0.2, dual: None }
    }
}

/// Advantages and loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Estimator of the task's advantage (`--advantage-estimator`).
    pub estimator: EstimatorKind,
    /// Whether advantages are whitened over the batch (`--normalize-advantages`).
    pub whiten: bool,
    /// The loss.
    pub loss: LossKind,
    /// Bounds of the ratio, for the losses that clip.
    pub clip: ClipConfig,
    /// Weight of the mixture in `jsd`.
    pub jsd_beta: f64,
    /// How the losses of tokens become one number.
    pub aggregation: AggregationKind,
    /// Whose log-probs the ratio and the signal start from.
    pub old_logprobs: OldLogprobs,
    /// Weight of the entropy bonus.
    pub entropy_coef: f64,
    /// Weight of the KL to the start policy in the loss (`--kl-loss-coef`).
    pub kl_loss_coef: f64,
    /// Its estimator (`--kl-loss-type`).
    pub kl_loss_type: KlKind,
    /// Weight of the KL to the start policy in the reward (`--kl-coef`).
    pub kl_coef: f64,
    /// Discount of the return (`--gamma`).
    pub gamma: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            estimator: EstimatorKind::default(),
            whiten: false,
            loss: LossKind::default(),
            clip: ClipConfig::default(),
            jsd_beta: 0.5,
            aggregation: AggregationKind::default(),
            old_logprobs: OldLogprobs::default(),
            entropy_coef: 0.0,
            kl_loss_coef: 0.0,
            kl_loss_type: KlKind::K2,
            kl_coef: 0.0,
            gamma: 1.0,
        }
    }
}

impl ObjectiveConfig {
    /// Whether the start policy has to be kept.
    pub fn needs_reference(&self) -> bool {
        self.kl_loss_coef != 0.0 || self.kl_coef != 0.0
    }

    pub(crate) fn validate(
        &self,
        distills: bool,
        samples_per_prompt: usize,
    ) -> Result<(), ConfigError> {
        let conflict = |what: String, remedy| Err(ConfigError::Conflict { what, remedy });
        non_negative("objective.entropy_coef", self.entropy_coef)?;
        non_negative("objective.kl_loss_coef", self.kl_loss_coef)?;
        non_negative("objective.kl_coef", self.kl_coef)?;
        non_negative("objective.clip.below", self.clip.below)?;
        non_negative("objective.clip.above", self.clip.above)?;
        if let Some(dual) = self.clip.dual {
            check(dual > 1.0 && dual.is_finite(), "objective.clip.dual", "above 1", dual)?;
        }
        check(
            (0.0..=1.0).contains(&self.jsd_beta),
            "objective.jsd_beta",
            "from 0 to 1",
            self.jsd_beta,
        )?;
        check((0.0..=1.0).contains(&self.gamma), "objective.gamma", "from 0 to 1", self.gamma)?;
        if self.kl_loss_coef > 0.0 && self.kl_loss_type == KlKind::K1 {
            return conflict(
                "kl_loss_type k1: as a loss its expected gradient is zero".into(),
                "use --kl-loss-type k2 (the gradient of the reverse KL)",
            );
        }
        if self.loss.is_divergence() && !distills {
            return conflict(
                format!(
                    "the loss {:?} compares the student with a teacher, and there is none",
                    self.loss
                ),
                "add --use-opd --opd-type in-process --opd-teacher-load DIR",
            );
        }
        if !distills && self.estimator == EstimatorKind::Zero {
            return conflict(
                "there is no teacher and the estimator `zero` ignores rewards: nothing would be trained".into(),
                "add --use-opd with a teacher, or choose --advantage-estimator",
            );
        }
        let groups = matches!(
            self.estimator,
            EstimatorKind::Grpo
                | EstimatorKind::DrGrpo
                | EstimatorKind::Rloo
                | EstimatorKind::ReinforcePlusPlusBaseline
        );
        if groups && samples_per_prompt < 2 {
            return conflict(
                format!(
                    "the estimator {:?} compares samples of one prompt, and samples_per_prompt is {samples_per_prompt}: every advantage would be 0",
                    self.estimator
                ),
                "set --n-samples-per-prompt to at least 2",
            );
        }
        Ok(())
    }
}
