use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, group::from_groups, output::per_row};

/// Group-relative advantage without the division by the standard deviation.
///
/// ```text
/// A_t = R - mean(R of the group)
/// ```
///
/// Every token of a response gets the same value, in units of the reward, so that prompts with
/// nearly equal rewards do not weigh more than others. A group of one gives 0. The paper also
/// drops the division by the response length, which is the aggregation of the loss.
///
/// Source: Liu et al. 2025, Understanding R1-Zero-Like Training, section 3.2,
/// <https://arxiv.org/abs/2503.20783>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DrGrpo;

impl AdvantageEstimator for DrGrpo {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rows = from_groups(batch, |reward, group| reward - group.mean);
        per_row(batch, rows, "advantages of DrGrpo")
    }
}
