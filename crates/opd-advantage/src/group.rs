use opd_batch::{Groups, ScoredBatch};

/// Rewards of one prompt's rollouts, in short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupRewards {
    /// Rollouts in the group, at least one.
    pub(crate) n: f64,
    pub(crate) mean: f64,
    /// Sum of squared differences from the mean.
    squares: f64,
}

impl GroupRewards {
    fn new(members: &[usize], rewards: &[f32]) -> Self {
        let n = members.len() as f64;
        let of = |row: &usize| f64::from(rewards[*row]);
        let mean = members.iter().map(of).sum::<f64>() / n;
        let squares = members.iter().map(|row| (of(row) - mean).powi(2)).sum();
        Self { n, mean, squares }
    }

    /// Whether nothing can be compared: one rollout only.
    pub(crate) fn is_single(&self) -> bool {
        self.n < 2.0
    }

    /// Standard deviation with Bessel's correction; needs two rollouts.
    pub(crate) fn unbiased_std(&self) -> f64 {
        (self.squares / (self.n - 1.0)).sqrt()
    }
}

/// One value per row from its reward and the rewards of its group.
pub(crate) fn from_groups(
    batch: &ScoredBatch<'_>,
    advantage: impl Fn(f64, &GroupRewards) -> f64,
) -> Vec<f64> {
    let rewards = batch.rollouts().rewards();
    let groups: &Groups = batch.rollouts().groups();
    let of_group: Vec<_> =
        groups.iter().map(|members| GroupRewards::new(members, rewards)).collect();
    let rows = rewards.iter().zip(groups.group_of());
    rows.map(|(&reward, &group)| advantage(f64::from(reward), &of_group[group])).collect()
}
