use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result};

/// No task reward at all: the base of pure distillation.
///
/// ```text
/// A_t = 0
/// ```
///
/// `ZeroAdvantage.plus(ReverseKl::default())` learns from the teacher alone and equals
/// `ReverseKl::default()`.
///
/// Source: Thinking Machines 2025, On-Policy Distillation,
/// <https://thinkingmachines.ai/blog/on-policy-distillation/>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ZeroAdvantage;

impl AdvantageEstimator for ZeroAdvantage {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        Ok(Ragged::filled(batch.rollouts().rows().clone(), 0.0))
    }
}
