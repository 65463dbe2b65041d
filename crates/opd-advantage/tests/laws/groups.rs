use opd_advantage::Grpo;
use proptest::{collection::vec, prelude::*};

use crate::random::{Row, advantages, assert_close, batches, group_estimators};

proptest! {
    #[test]
    fn a_reward_shift_per_group_changes_nothing(rows in batches(), shifts in vec(-4..4i8, 3)) {
        // Rewards on a grid, so that the shifted ones are exact.
        let grid = |reward: f32| (reward * 1024.0).round() / 1024.0;
        let rows: Vec<Row> = rows.into_iter().map(|(g, r, t)| (g, grid(r), t)).collect();
        let shifted: Vec<Row> = rows
            .iter()
            .map(|(group, r, t)| (*group, r + f32::from(shifts[*group as usize]), t.clone()))
            .collect();
        for (name, estimator) in group_estimators() {
            let before = advantages(&estimator, &rows);
            let after = advantages(&estimator, &shifted);
            assert_close(name, after.values(), before.values(), 1e-5);
        }
    }

    #[test]
    fn grpo_ignores_the_scale_of_rewards(rows in batches(), doublings in 0..4i32) {
        let rows: Vec<Row> = rows
            .into_iter()
            .enumerate()
            .map(|(row, (g, _, t))| (g, [100.0, 300.0, 700.0][row % 3], t))
            .collect();
        let scale = 2.0f32.powi(doublings);
        let scaled: Vec<Row> = rows.iter().map(|(g, r, t)| (*g, r * scale, t.clone())).collect();
        let (before, after) = (advantages(&Grpo, &rows), advantages(&Grpo, &scaled));
        assert_close("Grpo", after.values(), before.values(), 1e-6);
    }
}
