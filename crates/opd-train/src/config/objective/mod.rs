mod advantage;
mod correction;
mod critic;
mod loss;
mod terms;

use serde::{Deserialize, Serialize};

pub use self::{
    advantage::{BaselineKind, EstimatorKind, TruncatedKind},
    correction::{CorrectionConfig, CorrectionGrain, CorrectionKind},
    critic::{CriticConfig, CriticKind},
    loss::{ClipConfig, LossKind, SupportKind, TailKind},
    terms::{AggregationKind, KlKind, OldLogprobs},
};
use super::{
    ConfigError,
    error::{at_least_one, check, non_negative},
};

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
    /// Weight of the teacher in the mixture of `jsd` and `gold`.
    pub jsd_beta: f64,
    /// Weight of the own side in the mixture of the skewed KLs.
    pub skew_alpha: f64,
    /// Weight of the forward KL in `mixed_kl`.
    pub mixed_forward: f64,
    /// Weight in `gold` of the tokens that both vocabularies have.
    pub gold_matched: f64,
    /// Weight in `gold` of those that only one has.
    pub gold_unmatched: f64,
    /// Ids per token of the top-k losses.
    pub top_k: usize,
    /// Whose likeliest ids these are.
    pub top_k_support: SupportKind,
    /// What they do with the rest of the probability.
    pub top_k_tail: TailKind,
    /// Whether `mini_llm` divides what follows a token by the number of tokens that follow.
    pub length_normalised: bool,
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
    /// How far `ppo` looks past the critic's next value: 0 trusts it, 1 takes the whole return
    /// (`--lambd`).
    pub lambda: f64,
    /// The critic of `ppo`.
    pub critic: CriticConfig,
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
            gold_matched: 1.0,
            gold_unmatched: 1.0,
            top_k: 64,
            top_k_support: SupportKind::default(),
            top_k_tail: TailKind::default(),
            length_normalised: true,
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
            lambda: 1.0,
            critic: CriticConfig::default(),
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
        fraction("objective.lambda", self.lambda)?;
        self.critic.validate()?;
        non_negative("objective.gold_matched", self.gold_matched)?;
        non_negative("objective.gold_unmatched", self.gold_unmatched)?;
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
