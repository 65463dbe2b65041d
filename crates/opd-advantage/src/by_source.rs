use std::collections::BTreeMap;

use opd_batch::{Ragged, ScoredBatch, Source};

use crate::{AdvantageEstimator, Result, setting};

const NAME: &str = "BySource";

/// Another estimator's advantages, weighted by where each prompt came from.
///
/// ```text
/// A_t <- factor(source of the row) * A_t
/// ```
///
/// In units of the inner estimator. Several teachers of unequal worth are one use.
///
/// ```
/// use opd_advantage::{AdvantageEstimator, BySource, Grpo, ReverseKl};
/// use opd_batch::Source;
///
/// let factors = [(Source::new("math"), 1.0), (Source::new("chat"), 0.25)].into();
/// let estimator = Grpo.plus(BySource { inner: ReverseKl::default(), factors, others: 1.0 });
/// # assert!(estimator.validate().is_ok());
/// ```
///
/// Source: per-teacher weights of multi-teacher distillation, as in NeMo-RL.
#[derive(Clone, Debug, PartialEq)]
pub struct BySource<E> {
    /// The estimator that is weighted.
    pub inner: E,
    /// Factors, at least 0.
    pub factors: BTreeMap<Source, f32>,
    /// The factor of all other sources, at least 0.
    pub others: f32,
}

impl<E: AdvantageEstimator> AdvantageEstimator for BySource<E> {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let mut inner = self.inner.advantages(batch)?;
        inner.check_rows(batch.rollouts().rows(), "advantages to be weighted")?;
        let rows = inner.rows().clone();
        for (range, source) in rows.ranges().zip(batch.rollouts().sources()) {
            let factor = self.factors.get(source).copied().unwrap_or(self.others);
            for value in &mut inner.values_mut()[range] {
                *value *= factor;
            }
        }
        inner.check_finite("advantages of BySource")?;
        Ok(inner)
    }

    fn validate(&self) -> Result<()> {
        for factor in self.factors.values().chain([&self.others]) {
            setting::coefficient(NAME, "factor", *factor)?;
        }
        self.inner.validate()
    }
}

#[cfg(test)]
mod tests {
    use opd_batch::{Rollout, RolloutBatch};

    use super::*;
    use crate::RawReward;

    #[test]
    fn each_row_has_the_factor_of_its_source() {
        let rollout = |source: &str, n: usize| Rollout {
            prompt: vec![1],
            response: vec![2; n],
            sampler_logprobs: vec![-1.0; n],
            reward: 2.0,
            source: Source::new(source),
            ..Rollout::default()
        };
        let rollouts = vec![rollout("a", 1), rollout("b", 2), rollout("c", 1)];
        let batch = RolloutBatch::from_rollouts(rollouts).unwrap();
        let scored = ScoredBatch::from_sampler(&batch);
        let factors = BTreeMap::from([(Source::new("a"), 0.5), (Source::new("c"), 0.0)]);
        let weighted = BySource { inner: RawReward, factors: factors.clone(), others: 3.0 };
        let advantages = weighted.advantages(&scored).unwrap();
        assert_eq!(advantages.values(), [1.0, 6.0, 6.0, 0.0]);
        for bad in [-1.0, f32::NAN] {
            let weighted = BySource { inner: RawReward, factors: factors.clone(), others: bad };
            assert!(weighted.advantages(&scored).is_err());
        }
    }
}
