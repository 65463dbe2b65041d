use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, group::from_groups, output::per_row};

/// Leave-one-out advantage: a reward less the mean reward of the others in its group.
///
/// ```text
/// A_t = R_i - 1/(n-1) * sum_{j != i} R_j = (R_i - mean(R)) * n/(n-1)
/// ```
///
/// Every token of a response gets the same value, in units of the reward. The baseline does not
/// depend on the response it is taken from, so the gradient stays unbiased. A group of one has
/// no others and gives 0.
///
/// Source: Ahmadian et al. 2024, Back to Basics, section 3.3, <https://arxiv.org/abs/2402.14740>,
/// after Kool et al. 2019.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rloo;

impl AdvantageEstimator for Rloo {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rows = from_groups(batch, |reward, group| {
            if group.is_single() {
                return 0.0;
            }
            (reward - group.mean) * group.n / (group.n - 1.0)
        });
        per_row(batch, rows, "advantages of Rloo")
    }
}
