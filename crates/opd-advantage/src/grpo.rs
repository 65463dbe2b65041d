use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, group::from_groups, output::per_row};

/// Keeps the quotient finite where all rewards of a group are equal.
const EPSILON: f64 = 1e-6;

/// Group-relative advantage: how many standard deviations a reward lies above its group's mean.
///
/// ```text
/// A_t = (R - mean(R of the group)) / (std(R of the group) + 1e-6)
/// ```
///
/// Every token of a response gets the same value, a pure number. The standard deviation has
/// Bessel's correction. A group of one gives `R - mean = 0` without the division: sample at
/// least two responses per prompt. GSPO and CISPO use the same advantage with other losses.
///
/// Source: Shao et al. 2024, DeepSeekMath, section 4.1.2 (outcome supervision),
/// <https://arxiv.org/abs/2402.03300>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Grpo;

impl AdvantageEstimator for Grpo {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rows = from_groups(batch, |reward, group| {
            let centred = reward - group.mean;
            if group.is_single() { centred } else { centred / (group.unbiased_std() + EPSILON) }
        });
        per_row(batch, rows, "advantages of Grpo")
    }
}
