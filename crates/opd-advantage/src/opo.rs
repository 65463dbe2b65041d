use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, output::per_row};

/// A reward less the length-weighted mean reward of its group.
///
/// ```text
/// A_t = R_i - sum_j n_j R_j / sum_j n_j
/// ```
///
/// `n_j` is the number of response tokens of rollout `j`. The weighted mean is the baseline of
/// least variance where a response's squared gradient grows with its length. Every token of a
/// response gets the same value, in units of the reward; a group of one gives 0.
///
/// Source: Hao et al. 2025, On-Policy RL with Optimal Reward Baseline,
/// <https://arxiv.org/abs/2505.23585>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Opo;

impl AdvantageEstimator for Opo {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rollouts = batch.rollouts();
        let rewards = rollouts.rewards();
        let lengths: Vec<f64> = rollouts.rows().lengths().map(|n| n as f64).collect();
        let groups = rollouts.groups();
        let baseline = |members: &[usize]| {
            let total: f64 = members.iter().map(|&row| lengths[row]).sum();
            // Differences from one of them: equal rewards leave exactly 0.
            let first = f64::from(rewards[members[0]]);
            let off = |&row: &usize| lengths[row] * (f64::from(rewards[row]) - first);
            first + members.iter().map(off).sum::<f64>() / total
        };
        let baselines: Vec<f64> = groups.iter().map(baseline).collect();
        let rows = rewards.iter().zip(groups.group_of());
        let rows = rows.map(|(&reward, &group)| f64::from(reward) - baselines[group]);
        per_row(batch, rows, "advantages of Opo")
    }
}
