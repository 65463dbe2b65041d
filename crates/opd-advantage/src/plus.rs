use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result};

/// Token-wise sum of two estimators; made by [`AdvantageEstimator::plus`].
///
/// ```text
/// A_t = first_t + second_t
/// ```
///
/// In units of the terms. Both must answer in the rows of the batch's responses.
///
/// Source: Thinking Machines 2025, On-Policy Distillation, which adds the teacher's signal to
/// task rewards, <https://thinkingmachines.ai/blog/on-policy-distillation/>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plus<A, B> {
    first: A,
    second: B,
}

impl<A, B> Plus<A, B> {
    pub(crate) fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<A: AdvantageEstimator, B: AdvantageEstimator> AdvantageEstimator for Plus<A, B> {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let first = self.first.advantages(batch)?;
        first.check_rows(batch.rollouts().rows(), "advantages of the first term of Plus")?;
        let second = self.second.advantages(batch)?;
        let what = "advantages of the second term of Plus";
        let sum = first.zip_with(&second, what, |first, second| first + second)?;
        sum.check_finite("advantages of Plus")?;
        Ok(sum)
    }

    fn validate(&self) -> Result<()> {
        self.first.validate()?;
        self.second.validate()
    }
}
