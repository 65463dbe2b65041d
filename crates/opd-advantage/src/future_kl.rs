use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, output::per_token, setting};

const NAME: &str = "FutureKl";

/// MiniLLM's long-horizon signal: what follows a token, per token that follows.
///
/// ```text
/// A_t = coef / n_t * sum_{i > t} m_i (teacher_i - old_i),   n_t = sum_{i > t} m_i
/// ```
///
/// 0 where nothing trained follows. Log-probs in nats; `m` is [`ScoredBatch::mask`]. A token's
/// own KL is no part of it: the source adds that as the reverse KL of the whole distributions,
/// differentiated directly. The division keeps long responses from being punished for their
/// length; without it (`length_normalised` false, `n_t = 1`) both parts together are the exact
/// gradient of the reverse KL of whole responses.
///
/// Source: Gu et al. 2023, MiniLLM, <https://arxiv.org/abs/2306.08543>, section 2.2 (single-step
/// decomposition and length normalisation).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct FutureKl {
    /// Weight of the signal, at least 0; default 1.
    pub coef: f32,
    /// Whether the sum is divided by the number of tokens that follow; default true.
    pub length_normalised: bool,
}

impl Default for FutureKl {
    fn default() -> Self {
        Self { coef: 1.0, length_normalised: true }
    }
}

impl AdvantageEstimator for FutureKl {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let teacher = batch.teacher_logprobs(NAME)?.values();
        let (old, mask) = (batch.per_span(batch.old_logprobs())?, batch.mask().values());
        let coef = f64::from(self.coef);
        let mut signal = vec![0.0; mask.len()];
        for range in batch.rollouts().rows().ranges() {
            let (mut sum, mut n) = (0.0, 0.0f64);
            let mut after = 0.0;
            for token in range.rev() {
                if batch.ends_span(token) {
                    after = coef * sum / if self.length_normalised { n.max(1.0) } else { 1.0 };
                    if let (Some(teacher), true) = (teacher[token], mask[token]) {
                        sum += f64::from(teacher) - old[token];
                        n += 1.0;
                    }
                }
                signal[token] = after;
            }
        }
        per_token(batch, signal, "advantages of FutureKl")
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "coef", self.coef)
    }
}
