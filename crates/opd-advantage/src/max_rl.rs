use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, group::from_groups, output::per_row};

/// Reward above the group's mean, in multiples of that mean: follows the log of the pass rate.
///
/// ```text
/// A_t = (R - mean(R of the group)) / mean(R of the group),   0 where the mean is not above 0
/// ```
///
/// With rewards of 0 and 1 the expected gradient approaches that of `log(pass rate)` as the
/// group grows, so that hard prompts weigh more than under the reward itself. Meant for rewards
/// that are not negative. Every token of a response gets the same value, a pure number.
///
/// Source: Tajwar et al. 2026, Maximum Likelihood Reinforcement Learning,
/// <https://arxiv.org/abs/2602.02710>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MaxRl;

impl AdvantageEstimator for MaxRl {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rows = from_groups(batch, |reward, group| {
            if group.mean > 0.0 { (reward - group.mean) / group.mean } else { 0.0 }
        });
        per_row(batch, rows, "advantages of MaxRl")
    }
}
