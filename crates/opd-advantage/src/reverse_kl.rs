use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, discounted::discounted_spans, output::per_token, setting};

const NAME: &str = "ReverseKl";

/// The on-policy distillation signal: negative reverse KL to the teacher on the sampled tokens.
///
/// ```text
/// x_t = -coef * m_t * (old_logprob_t - teacher_logprob_t)
/// A_t = x_t + discount * A_{t+1},   A = 0 after the last token
/// ```
///
/// The difference (nats) is the one-sample estimate of `KL(student || teacher)` at token `t`:
/// tokens that the teacher finds likelier than the student did get a positive advantage.
/// `m` is [`ScoredBatch::mask`], so a token without a teacher's score contributes nothing. With
/// `discount = 0` a masked token gets 0; above 0 it passes on what comes after it.
///
/// Where the teacher scored spans of tokens, because it cuts text into others, log-probs are sums
/// over the span, `t` counts spans, and each token of a span has its advantage.
///
/// Add it to any estimator, before whitening:
///
/// ```
/// use opd_advantage::{AdvantageEstimator, Grpo, ReverseKl};
///
/// let estimator = Grpo.plus(ReverseKl { coef: 0.5, ..ReverseKl::default() });
/// let whitened = estimator.whitened();
/// # assert!(whitened.validate().is_ok());
/// ```
///
/// Whitening this signal alone cancels `coef`.
///
/// Source: Thinking Machines 2025, On-Policy Distillation,
/// <https://thinkingmachines.ai/blog/on-policy-distillation/>; the discount from
/// `incorporate_kl_penalty` of tinker-cookbook.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ReverseKl {
    /// Weight of the KL, at least 0; default 1.
    pub coef: f32,
    /// How much a token answers for the KL after it, from 0 to 1; default 0: for its own only.
    pub discount: f32,
}

impl Default for ReverseKl {
    fn default() -> Self {
        Self { coef: 1.0, discount: 0.0 }
    }
}

impl AdvantageEstimator for ReverseKl {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let coef = f64::from(self.coef);
        let teacher = batch.teacher_logprobs(NAME)?;
        let old = batch.per_span(batch.old_logprobs())?;
        let tokens = old.into_iter().zip(teacher.values()).zip(batch.mask().values());
        let mut signal: Vec<f64> = tokens
            .map(|((old, &teacher), &mask)| match teacher {
                Some(teacher) if mask => coef * (f64::from(teacher) - old),
                _ => 0.0,
            })
            .collect();
        discounted_spans(batch, &mut signal, f64::from(self.discount));
        per_token(batch, signal, "advantages of ReverseKl")
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "coef", self.coef)?;
        setting::fraction(NAME, "discount", self.discount)
    }
}
