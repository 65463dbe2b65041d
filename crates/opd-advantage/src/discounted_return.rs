use opd_batch::{Ragged, ScoredBatch};

use crate::{
    AdvantageEstimator, Result, discounted::discounted_sums, group::from_groups, output::per_token,
    setting,
};

const NAME: &str = "DiscountedReturn";

/// What is taken off a reward before it becomes a return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Baseline {
    /// Nothing.
    #[default]
    None,
    /// The mean reward of all rollouts of the batch.
    BatchMean,
    /// The mean reward of the prompt's rollouts.
    GroupMean,
    /// The mean reward of the prompt's other rollouts; 0 in a group of one.
    LeaveOneOut,
}

/// REINFORCE: the discounted return, less a baseline.
///
/// ```text
/// A_t = gamma^(last - t) (R - baseline),   last: the last token with mask 1; 0 after it
/// ```
///
/// In units of the reward. Without a baseline the gradient is unbiased and noisy;
/// [`Baseline::LeaveOneOut`] keeps it unbiased, the means that include the response itself scale
/// it by `(n - 1) / n`. With `gamma = 1` this is [`RawReward`](crate::RawReward),
/// [`DrGrpo`](crate::DrGrpo) or [`Rloo`](crate::Rloo) up to the last trained token.
///
/// Source: Williams 1992, REINFORCE, <https://doi.org/10.1007/BF00992696>.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DiscountedReturn {
    /// Discount per token, from 0 to 1; default 1.
    pub gamma: f32,
    /// What is taken off the reward.
    pub baseline: Baseline,
}

impl Default for DiscountedReturn {
    fn default() -> Self {
        Self { gamma: 1.0, baseline: Baseline::None }
    }
}

impl DiscountedReturn {
    fn rewards(&self, batch: &ScoredBatch<'_>) -> Vec<f64> {
        let rewards = batch.rollouts().rewards();
        let batch_mean = || {
            let sum: f64 = rewards.iter().copied().map(f64::from).sum();
            sum / rewards.len() as f64
        };
        match self.baseline {
            Baseline::None => rewards.iter().copied().map(f64::from).collect(),
            Baseline::BatchMean => {
                let mean = batch_mean();
                rewards.iter().map(|&reward| f64::from(reward) - mean).collect()
            }
            Baseline::GroupMean => from_groups(batch, |reward, group| reward - group.mean),
            Baseline::LeaveOneOut => from_groups(batch, |reward, group| match group.is_single() {
                true => 0.0,
                false => (reward - group.mean) * group.n / (group.n - 1.0),
            }),
        }
    }
}

impl AdvantageEstimator for DiscountedReturn {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let rollouts = batch.rollouts();
        let mask = rollouts.loss_mask().values();
        let mut tokens = vec![0.0; mask.len()];
        for (range, reward) in rollouts.rows().ranges().zip(self.rewards(batch)) {
            if let Some(last) = range.rev().find(|&token| mask[token]) {
                tokens[last] = reward;
            }
        }
        discounted_sums(rollouts.rows(), &mut tokens, f64::from(self.gamma));
        per_token(batch, tokens, "advantages of DiscountedReturn")
    }

    fn validate(&self) -> Result<()> {
        setting::fraction(NAME, "gamma", self.gamma)
    }
}
