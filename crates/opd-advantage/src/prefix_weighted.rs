use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, setting};

const NAME: &str = "PrefixWeighted";

/// Keeps the quotient finite where a row has no signal.
const EPSILON: f64 = 1e-8;

/// Weighs another estimator's advantages by how little signal came before; made by
/// [`AdvantageEstimator::prefix_weighted`].
///
/// ```text
/// w_t = 1 + gamma (1 - sum_{i < t} m_i |A_i| / max(sum_i m_i |A_i|, 1e-8))
/// A_t <- w_t A_t
/// ```
///
/// Sums run over the row; `m` is [`ScoredBatch::mask`]. The first token weighs `1 + gamma`, and
/// the weight falls to 1 as the row's disagreement with the teacher is used up: late tokens
/// follow prefixes that the teacher would not have written.
///
/// Source: Xie et al. 2026, On the Position Bias of On-Policy Distillation (IW-OPD),
/// <https://arxiv.org/abs/2606.22600>; `gamma` 0.5 there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PrefixWeighted<E> {
    inner: E,
    gamma: f32,
}

impl<E> PrefixWeighted<E> {
    pub(crate) fn new(inner: E, gamma: f32) -> Self {
        Self { inner, gamma }
    }
}

impl<E: AdvantageEstimator> AdvantageEstimator for PrefixWeighted<E> {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let mut advantages = self.inner.advantages(batch)?;
        advantages.check_rows(batch.rollouts().rows(), "advantages to be weighted by prefix")?;
        let mask = batch.mask().values();
        let gamma = f64::from(self.gamma);
        for range in batch.rollouts().rows().ranges() {
            let values = &mut advantages.values_mut()[range.clone()];
            let size = |(&value, &mask): (&f32, &bool)| match mask {
                true => f64::from(value).abs(),
                false => 0.0,
            };
            let sizes: Vec<f64> = values.iter().zip(&mask[range]).map(size).collect();
            let total = sizes.iter().sum::<f64>().max(EPSILON);
            let mut before = 0.0;
            for (value, size) in values.iter_mut().zip(sizes) {
                let weight = 1.0 + gamma * (1.0 - before / total);
                *value = (f64::from(*value) * weight) as f32;
                before += size;
            }
        }
        advantages.check_finite("advantages of PrefixWeighted")?;
        Ok(advantages)
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "gamma", self.gamma)?;
        self.inner.validate()
    }
}
