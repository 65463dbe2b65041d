use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, output::per_row};

/// The task reward itself: group normalisation switched off.
///
/// ```text
/// A_t = R
/// ```
///
/// Every token of a response gets the same value, in units of the reward. Without a baseline
/// the gradient is unbiased and noisy; right where the reward already is an advantage.
///
/// Source: Williams 1992, REINFORCE, <https://doi.org/10.1007/BF00992696>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RawReward;

impl AdvantageEstimator for RawReward {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rewards = batch.rollouts().rewards();
        per_row(batch, rewards.iter().copied().map(f64::from), "advantages of RawReward")
    }
}
