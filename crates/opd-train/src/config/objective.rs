use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, check, non_negative},
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
    /// Length-weighted mean of the group as baseline.
    Opo,
    /// Reward within its group, over the group's mean.
    MaxRl,
    /// Best reward of teams of `pass_k`, standardised.
    PassAtK,
    /// Discounted return (`gamma`) less `baseline`.
    Reinforce,
    /// Discounted return with a KL penalty per token; whitened.
    ReinforcePlusPlus,
    /// Group-centred reward with a KL penalty per token; whitened.
    ReinforcePlusPlusBaseline,
}

impl EstimatorKind {
    /// Whether a response is compared with others to the same prompt.
    pub fn compares_group(self) -> bool {
        matches!(
            self,
            Self::Grpo
                | Self::DrGrpo
                | Self::Rloo
                | Self::Opo
                | Self::MaxRl
                | Self::PassAtK
                | Self::ReinforcePlusPlusBaseline
        )
    }

    /// Whether `kl_coef` enters.
    pub fn reads_kl_coef(self) -> bool {
        matches!(self, Self::ReinforcePlusPlus | Self::ReinforcePlusPlusBaseline)
    }

    /// Whether `gamma` enters.
    pub fn reads_gamma(self) -> bool {
        matches!(self, Self::Reinforce | Self::ReinforcePlusPlus)
    }
}

/// What the estimator `reinforce` takes off a reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineKind {
    /// Nothing.
    #[default]
    None,
    /// Mean reward of the batch.
    BatchMean,
    /// Mean reward of the prompt's responses.
    GroupMean,
    /// Mean reward of the prompt's other responses.
    LeaveOneOut,
}

/// What becomes of responses that reached the token limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TruncatedKind {
    /// They are trained on like any other.
    #[default]
    Keep,
    /// None of their tokens is trained on.
    Mask,
    /// `truncation_penalty` is taken off their reward.
    Penalise,
    /// Up to `truncation_penalty` is taken off, growing over the last `overlong_buffer` tokens.
    Overlong,
}

/// What happens to sampler mismatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionKind {
    /// Nothing.
    #[default]
    None,
    /// The weight `exp(old - sampler)` is clamped to the bounds: TIS.
    Truncate,
    /// A weight outside the bounds drops what it is of: IcePop, masked importance sampling.
    Reject,
    /// As `reject`, and inside the bounds the weight is 1.
    Mask,
}

/// What one correction weight is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionGrain {
    /// A token.
    #[default]
    Token,
    /// A response: the product of its tokens' weights.
    Sequence,
    /// A response: their geometric mean.
    Geometric,
}

/// Correction of policy losses for a sampler that computes something else than the trainer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrectionConfig {
    /// What is done.
    pub kind: CorrectionKind,
    /// What a weight is of.
    pub grain: CorrectionGrain,
    /// Lower bound of the weight (`--tis-clip-low`).
    pub low: f64,
    /// Upper bound of the weight (`--tis-clip`).
    pub high: f64,
}

impl Default for CorrectionConfig {
    fn default() -> Self {
        Self { kind: CorrectionKind::None, grain: CorrectionGrain::Token, low: 0.0, high: 2.0 }
    }
}

/// Whose likeliest ids a top-k loss looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportKind {
    /// The teacher's.
    #[default]
    Teacher,
    /// The student's.
    Student,
}

/// What a top-k loss does with the probability outside its ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailKind {
    /// One more outcome holds it.
    #[default]
    Bucket,
    /// It is divided out.
    Renormalised,
    /// It is left out, which is biased: needs `allow_biased`.
    Truncated,
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
    /// `KL(teacher || a mixture of both)` over the whole vocabulary.
    SkewForwardKl,
    /// `KL(student || a mixture of both)` over the whole vocabulary.
    SkewReverseKl,
    /// A weighted sum of forward and reverse KL over the whole vocabulary.
    MixedKl,
    /// Total variation distance over the whole vocabulary.
    Tvd,
    /// `KL(teacher || student)` over `top_k` ids.
    TopKForwardKl,
    /// `KL(student || teacher)` over `top_k` ids.
    TopKReverseKl,
    /// Cross-entropy of the responses: supervised fine-tuning.
    Sft,
}

impl LossKind {
    /// Whether the loss compares whole distributions and reads no advantages.
    pub fn is_divergence(self) -> bool {
        matches!(
            self,
            Self::ReverseKl
                | Self::ForwardKl
                | Self::Jsd
                | Self::SkewForwardKl
                | Self::SkewReverseKl
                | Self::MixedKl
                | Self::Tvd
        ) || self.is_top_k()
    }

    /// Whether the loss compares `top_k` ids of the vocabulary.
    pub fn is_top_k(self) -> bool {
        matches!(self, Self::TopKForwardKl | Self::TopKReverseKl)
    }

    /// Whether the loss is one of the sampled tokens and their advantages.
    pub fn is_policy(self) -> bool {
        !self.is_divergence() && self != Self::Sft
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
    /// What `reinforce` takes off a reward.
    pub baseline: BaselineKind,
    /// Responses per team of `pass_at_k`.
    pub pass_k: usize,
    /// What becomes of responses that reached the token limit.
    pub truncated: TruncatedKind,
    /// What `penalise` and `overlong` take off a reward.
    pub truncation_penalty: f64,
    /// Tokens before the limit over which `overlong` grows.
    pub overlong_buffer: usize,
    /// Weight of the mixture in `jsd`.
    pub jsd_beta: f64,
    /// Weight of the own side in the mixture of the skewed KLs.
    pub skew_alpha: f64,
    /// Weight of the forward KL in `mixed_kl`.
    pub mixed_forward: f64,
    /// Ids per token of the top-k losses.
    pub top_k: usize,
    /// Whose likeliest ids these are.
    pub top_k_support: SupportKind,
    /// What they do with the rest of the probability.
    pub top_k_tail: TailKind,
    /// Accept a loss that is known to be biased.
    pub allow_biased: bool,
    /// Correction for sampler mismatch.
    pub correction: CorrectionConfig,
    /// Mean log-ratio above which a sequence's bad tokens are masked (`--opsm-delta`); not at all
    /// without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opsm_delta: Option<f64>,
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
    /// Weighs it by the importance ratio (`--use-unbiased-kl`).
    pub kl_loss_unbiased: bool,
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
            baseline: BaselineKind::default(),
            pass_k: 4,
            truncated: TruncatedKind::default(),
            truncation_penalty: 1.0,
            overlong_buffer: 0,
            jsd_beta: 0.5,
            skew_alpha: 0.1,
            mixed_forward: 0.5,
            top_k: 64,
            top_k_support: SupportKind::default(),
            top_k_tail: TailKind::default(),
            allow_biased: false,
            correction: CorrectionConfig::default(),
            opsm_delta: None,
            aggregation: AggregationKind::default(),
            old_logprobs: OldLogprobs::default(),
            entropy_coef: 0.0,
            kl_loss_coef: 0.0,
            kl_loss_type: KlKind::K2,
            kl_loss_unbiased: false,
            kl_coef: 0.0,
            gamma: 1.0,
        }
    }
}

impl ObjectiveConfig {
    pub(crate) fn validate(&self, max_response_tokens: usize) -> Result<(), ConfigError> {
        non_negative("objective.entropy_coef", self.entropy_coef)?;
        non_negative("objective.kl_loss_coef", self.kl_loss_coef)?;
        non_negative("objective.kl_coef", self.kl_coef)?;
        non_negative("objective.clip.below", self.clip.below)?;
        non_negative("objective.clip.above", self.clip.above)?;
        non_negative("objective.truncation_penalty", self.truncation_penalty)?;
        if let Some(dual) = self.clip.dual {
            check(dual > 1.0 && dual.is_finite(), "objective.clip.dual", "above 1", dual)?;
        }
        fraction("objective.jsd_beta", self.jsd_beta)?;
        fraction("objective.mixed_forward", self.mixed_forward)?;
        fraction("objective.gamma", self.gamma)?;
        let alpha = self.skew_alpha;
        let expected = "at least 0 and under 1";
        check((0.0..1.0).contains(&alpha), "objective.skew_alpha", expected, alpha)?;
        at_least_one("objective.pass_k", self.pass_k as u64)?;
        at_least_one("objective.top_k", self.top_k as u64)?;
        non_negative("objective.correction.low", self.correction.low)?;
        let CorrectionConfig { low, high, .. } = self.correction;
        check(
            high.is_finite() && high > 0.0 && high >= low,
            "objective.correction.high",
            "finite, above 0 and at least objective.correction.low",
            high,
        )?;
        if let Some(delta) = self.opsm_delta {
            non_negative("objective.opsm_delta", delta)?;
        }
        if self.truncated == TruncatedKind::Overlong {
            check(
                (1..=max_response_tokens).contains(&self.overlong_buffer),
                "objective.overlong_buffer",
                "from 1 to rollout.max_response_tokens for `truncated = \"overlong\"`",
                self.overlong_buffer,
            )?;
        }
        Ok(())
    }
}

fn fraction(key: &'static str, got: f64) -> Result<(), ConfigError> {
    check((0.0..=1.0).contains(&got), key, "from 0 to 1", got)
}
