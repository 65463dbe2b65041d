use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, setting};

const NAME: &str = "PrefixRatio";

/// Weighs another estimator's advantages by how likely the teacher is to have written what came
/// before; made by [`AdvantageEstimator::prefix_ratio`].
///
/// ```text
/// w_t = min(1, exp(power * sum_{s < t} m_s (teacher_logprob_s - old_logprob_s)))
/// A_t <- w_t A_t
/// ```
///
/// Log-probs in nats; the sum runs over the row, `m` is [`ScoredBatch::mask`], and a token
/// without a score leaves the sum as it is. At `power = 1` the sum's exponential is the
/// likelihood ratio of the prefix, teacher over student, and it is cut at 1. At 0 all tokens
/// weigh the same. In long responses small differences add up: there a power well below 1 keeps
/// late tokens in play.
///
/// A weight depends on nothing from its own token on, so that a student that agrees with the
/// teacher still stays where it is. With [`ReverseKl`](crate::ReverseKl) without a discount and
/// `power = 1`, the expected gradient is that of the KL of the next token after each prefix, the
/// prefixes weighted by the lesser of both models' probabilities: what the teacher says after a
/// prefix that it would never write, and was never trained to go on from, is not learned.
///
/// Where the teacher scored spans of tokens, `s` and `t` count spans, and each token of a span
/// has its weight.
///
/// Source: a weight by likelihood ratio, cut at 1, as V-trace has it for off-policy targets
/// (Espeholt et al. 2018, <https://arxiv.org/abs/1802.01561>; there each factor is cut, here their
/// product). Why prefixes that the teacher could have written should count for more: Xie et al.
/// 2026, <https://arxiv.org/abs/2606.22600>, whose own weight is
/// [`PrefixWeighted`](crate::PrefixWeighted).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PrefixRatio<E> {
    inner: E,
    power: f32,
}

impl<E> PrefixRatio<E> {
    pub(crate) fn new(inner: E, power: f32) -> Self {
        Self { inner, power }
    }
}

impl<E: AdvantageEstimator> AdvantageEstimator for PrefixRatio<E> {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let mut advantages = self.inner.advantages(batch)?;
        advantages.check_rows(batch.rollouts().rows(), "advantages to be weighted by ratio")?;
        let weights = prefix_ratios(batch, self.power)?;
        for (advantage, weight) in advantages.values_mut().iter_mut().zip(weights.values()) {
            *advantage *= weight;
        }
        Ok(advantages)
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "power", self.power)?;
        self.inner.validate()
    }
}

/// The weights of [`PrefixRatio`], one per response token, from 0 to 1.
///
/// # Errors
///
/// [`opd_batch::Error::MissingStream`] if no teacher scored the batch.
pub fn prefix_ratios(batch: &ScoredBatch<'_>, power: f32) -> Result<Ragged<f32>> {
    let power = f64::from(power);
    let teacher = batch.teacher_logprobs(NAME)?.values();
    let (old, mask) = (batch.per_span(batch.old_logprobs())?, batch.mask().values());
    let mut weights = vec![1.0; mask.len()];
    for range in batch.rollouts().rows().ranges() {
        let mut log_ratio = 0.0;
        for token in range {
            weights[token] = (power * log_ratio).min(0.0).exp() as f32;
            if let (Some(teacher), true) = (teacher[token], mask[token] && batch.ends_span(token)) {
                log_ratio += f64::from(teacher) - old[token];
            }
        }
    }
    Ok(Ragged::new("weights of PrefixRatio", batch.rollouts().rows().clone(), weights)?)
}
