use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Error, Result, output::per_row, setting};

const NAME: &str = "PassAtK";

/// Advantage of a response in all the teams of `k` that its group can form, each team being
/// worth its best reward.
///
/// ```text
/// v(team) = max of its rewards
/// A_t     = (mean(v of the teams with the response) - mean(v)) / std(v)
/// ```
///
/// Means and deviation run over all teams of `k` out of the group's `n` rollouts, in closed form
/// from the sorted rewards. Where every team is worth the same, and in a group of fewer than
/// `k`, the advantage is 0. `k = 1` is `(R - mean) / std` without Bessel's correction. Every
/// token of a response gets the same value, a pure number.
///
/// Source: Chen et al. 2025, Pass@k Training, <https://arxiv.org/abs/2508.10751>, the analytical
/// form for rewards of 0 and 1; extended here to any reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct PassAtK {
    /// Responses per team, at least 1; default 4.
    pub k: usize,
}

impl Default for PassAtK {
    fn default() -> Self {
        Self { k: 4 }
    }
}

impl AdvantageEstimator for PassAtK {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let rollouts = batch.rollouts();
        let mut rows = vec![0.0; rollouts.n_rows()];
        for members in rollouts.groups().iter() {
            let rewards = members.iter().map(|&row| f64::from(rollouts.rewards()[row]));
            let advantages = of_group(&rewards.collect::<Vec<_>>(), self.k);
            for (&row, advantage) in members.iter().zip(advantages) {
                rows[row] = advantage;
            }
        }
        per_row(batch, rows, "advantages of PassAtK")
    }

    fn validate(&self) -> Result<()> {
        if self.k > 0 {
            return Ok(());
        }
        let (field, range) = ("k", setting::AT_LEAST_1);
        Err(Error::Setting { estimator: NAME, field, range, value: 0.0 })
    }
}

fn of_group(rewards: &[f64], k: usize) -> Vec<f64> {
    let n = rewards.len();
    if n < k {
        return vec![0.0; n];
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| rewards[a].total_cmp(&rewards[b]));
    let worst = rewards[order[0]];
    let sorted: Vec<f64> = order.iter().map(|&row| rewards[row] - worst).collect();
    // Share of teams of `size` out of the `among` worst whose best is the one at `place`.
    let best = |place: usize, size: usize, among: usize| -> f64 {
        if place + 1 < size {
            return 0.0;
        }
        let out_of = |n: usize, k: usize| -> f64 { (0..k).map(|i| ((n - i) as f64).ln()).sum() };
        let factor = (size as f64).ln();
        (out_of(place, size - 1) + factor - out_of(among, size)).exp()
    };
    let mean: f64 = (0..n).map(|place| sorted[place] * best(place, k, n)).sum();
    let squares: f64 = (0..n).map(|place| (sorted[place] - mean).powi(2) * best(place, k, n)).sum();
    let deviation = squares.sqrt();
    let mut advantages = vec![0.0; n];
    if deviation <= 1e-9 * sorted[n - 1] {
        return advantages;
    }
    for (place, &row) in order.iter().enumerate() {
        // Its k - 1 team mates come from the other n - 1; the best of the team is the better of
        // itself and the best mate.
        let others = || (0..n).filter(|&other| other != place).enumerate();
        let with: f64 = match k {
            1 => sorted[place],
            _ => others()
                .map(|(rank, other)| sorted[place].max(sorted[other]) * best(rank, k - 1, n - 1))
                .sum(),
        };
        advantages[row] = (with - mean) / deviation;
    }
    advantages
}
