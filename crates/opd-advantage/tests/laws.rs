//! Laws that hold on random ragged batches with masks, groups and missing scores.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use opd_advantage::{
    AdvantageEstimator, DrGrpo, Gae, Grpo, RawReward, ReinforcePlusPlus, ReinforcePlusPlusBaseline,
    ReverseKl, Rloo, ZeroAdvantage,
};
use opd_batch::{KlEstimator, Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};
use proptest::{collection::vec, prelude::*};

/// Everything known of one response token.
#[derive(Clone, Copy, Debug)]
struct Token {
    old: f32,
    teacher: Option<f32>,
    reference: f32,
    value: f32,
    mask: bool,
}

/// Group, reward and tokens.
type Row = (u32, f32, Vec<Token>);

fn token() -> impl Strategy<Value = Token> {
    let logprob = || -6.0..0.0f32;
    let teacher = proptest::option::weighted(0.8, logprob());
    let mask = prop::bool::weighted(0.7);
    (logprob(), teacher, logprob(), -2.0..2.0f32, mask).prop_map(
        |(old, teacher, reference, value, mask)| Token { old, teacher, reference, value, mask },
    )
}

fn batches() -> impl Strategy<Value = Vec<Row>> {
    vec((0..3u32, -2.0..2.0f32, vec(token(), 1..6)), 1..9)
}

fn rollouts(rows: &[Row]) -> RolloutBatch {
    let rollouts = rows.iter().map(|(group, reward, tokens)| Rollout {
        prompt: vec![1],
        response: vec![2; tokens.len()],
        sampler_logprobs: tokens.iter().map(|token| token.old).collect(),
        loss_mask: Some(tokens.iter().map(|token| token.mask).collect()),
        reward: *reward,
        group: *group,
        ..Rollout::default()
    });
    RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
}

fn stream<T>(rows: &[Row], of: impl Fn(&Token) -> T) -> Ragged<T> {
    Ragged::from_rows(rows.iter().map(|(_, _, tokens)| tokens.iter().map(&of).collect()))
}

fn with_scored<T>(rows: &[Row], f: impl FnOnce(&ScoredBatch<'_>) -> T) -> T {
    let rollouts = rollouts(rows);
    let logprobs = stream(rows, |token| token.teacher);
    let scored = ScoredBatch::from_sampler(&rollouts);
    let scored = scored.with_teacher(TeacherScores { logprobs, top: None }).unwrap();
    let scored = scored.with_reference(stream(rows, |token| token.reference)).unwrap();
    f(&scored.with_values(stream(rows, |token| token.value)).unwrap())
}

fn advantages(estimator: &dyn AdvantageEstimator, rows: &[Row]) -> Ragged<f32> {
    with_scored(rows, |scored| estimator.advantages(scored).unwrap())
}

fn trained(rows: &[Row]) -> Vec<bool> {
    stream(rows, |token| token.mask && token.teacher.is_some()).into_values()
}

/// Repeats the first row, so that two trained tokens have KLs that differ.
fn disagree_twice(rows: &mut Vec<Row>) {
    rows.push(rows[0].clone());
    for (row, kl) in [(0, 0.0), (rows.len() - 1, 2.0)] {
        let token = &mut rows[row].2[0];
        (token.mask, token.teacher) = (true, Some(token.old - kl));
    }
}

fn group_estimators() -> Vec<(&'static str, Box<dyn AdvantageEstimator>)> {
    vec![
        ("Grpo", Box::new(Grpo)),
        ("DrGrpo", Box::new(DrGrpo)),
        ("Rloo", Box::new(Rloo)),
        ("ReinforcePlusPlusBaseline", Box::new(ReinforcePlusPlusBaseline::default())),
    ]
}

fn all_estimators() -> Vec<(&'static str, Box<dyn AdvantageEstimator>)> {
    let (kl_coef, gamma, lambda) = (0.3, 0.9, 0.8);
    let mut all = group_estimators();
    let others: Vec<(_, Box<dyn AdvantageEstimator>)> = vec![
        ("RawReward", Box::new(RawReward)),
        ("Gae", Box::new(Gae { kl_coef, kl: KlEstimator::K1, gamma, lambda })),
        ("ReinforcePlusPlus", Box::new(ReinforcePlusPlus { kl_coef, kl: KlEstimator::K2, gamma })),
        ("ReverseKl", Box::new(ReverseKl { coef: 0.7, discount: 0.5 })),
        ("Plus", Box::new(Rloo.plus(ReverseKl::default()))),
    ];
    all.extend(others);
    all
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!((got - expected).abs() <= allowed, "{what}: {got} for {expected} at {at}");
    }
}

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

    #[test]
    fn permuted_rows_give_permuted_advantages(
        (rows, order) in batches().prop_flat_map(|rows| {
            let order: Vec<usize> = (0..rows.len()).collect();
            (Just(rows), Just(order).prop_shuffle())
        })
    ) {
        let permuted: Vec<Row> = order.iter().map(|&row| rows[row].clone()).collect();
        for (name, estimator) in all_estimators() {
            let expected = advantages(&estimator, &rows).select(&order).unwrap();
            let got = advantages(&estimator, &permuted);
            prop_assert_eq!(got.rows(), expected.rows());
            assert_close(name, got.values(), expected.values(), 1e-5);
        }
    }

    #[test]
    fn rows_of_other_groups_do_not_matter(rows in batches()) {
        let (group, ..) = rows[0];
        let own: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].0 == group).collect();
        let alone: Vec<Row> = own.iter().map(|&row| rows[row].clone()).collect();
        for (name, estimator) in all_estimators() {
            let together = advantages(&estimator, &rows).select(&own).unwrap();
            assert_eq!(advantages(&estimator, &alone), together, "{name}");
        }
    }

    #[test]
    fn reverse_kl_is_zero_where_the_teacher_agrees(mut rows in batches(), discount in 0.0..1.0f32) {
        for token in rows.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.teacher = Some(token.old);
        }
        let got = advantages(&ReverseKl { coef: 3.0, discount }, &rows);
        prop_assert!(got.values().iter().all(|&value| value == 0.0));
    }

    #[test]
    fn reverse_kl_without_discount_is_per_token(rows in batches(), coef in 0.0..3.0f32) {
        let got = advantages(&ReverseKl { coef, discount: 0.0 }, &rows);
        let expected = stream(&rows, |token| match token.teacher {
            Some(teacher) if token.mask => coef * (teacher - token.old),
            _ => 0.0,
        });
        assert_close("ReverseKl", got.values(), expected.values(), 1e-6);
    }

    #[test]
    fn reverse_kl_with_discount_1_is_the_kl_to_come(rows in batches()) {
        let per_token = advantages(&ReverseKl::default(), &rows);
        let got = advantages(&ReverseKl { coef: 1.0, discount: 1.0 }, &rows);
        for (got, per_token) in got.iter().zip(per_token.iter()) {
            let to_come: Vec<f32> = (0..got.len()).map(|t| per_token[t..].iter().sum()).collect();
            assert_close("discount 1", got, &to_come, 1e-5);
        }
    }

    #[test]
    fn missing_scores_and_masked_tokens_are_interchangeable(rows in batches()) {
        let mut unscored = rows.clone();
        let mut masked = rows;
        for token in unscored.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.teacher = token.teacher.filter(|_| token.mask);
            token.mask = true;
        }
        for token in masked.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.mask &= token.teacher.is_some();
            token.teacher = token.teacher.or(Some(-1.0));
        }
        let signal = ReverseKl { coef: 0.5, discount: 0.9 };
        prop_assert_eq!(advantages(&signal, &unscored), advantages(&signal, &masked));
    }

    #[test]
    fn plus_commutes_and_zero_is_its_unit(rows in batches()) {
        let signal = ReverseKl { coef: 0.7, discount: 0.5 };
        for (name, estimator) in all_estimators() {
            let left = advantages(&(&estimator).plus(signal), &rows);
            assert_eq!(advantages(&signal.plus(&estimator), &rows), left, "{name}");
            let alone = advantages(&estimator, &rows);
            assert_eq!(advantages(&(&estimator).plus(ZeroAdvantage), &rows), alone, "{name}");
            let terms = alone.zip_with(&advantages(&signal, &rows), "signal", |a, b| a + b);
            assert_eq!(left, terms.unwrap(), "{name}");
        }
    }

    #[test]
    fn gae_with_gamma_1_and_lambda_1_is_return_less_value(rows in batches(), kl_coef in 0.0..1.0f32) {
        let gae = Gae { kl_coef, ..Gae::default() };
        let got = with_scored(&rows, |scored| gae.estimate(scored).unwrap());
        for ((_, reward, tokens), (advantages, returns)) in
            rows.iter().zip(got.advantages.iter().zip(got.returns.iter()))
        {
            for (t, token) in tokens.iter().enumerate() {
                let penalties = tokens[t..].iter().map(|token| token.old - token.reference);
                let expected = reward - kl_coef * penalties.sum::<f32>();
                assert_close("return", &returns[t..=t], &[expected], 1e-5);
                assert_close("advantage", &advantages[t..=t], &[expected - token.value], 1e-5);
            }
        }
    }

    #[test]
    fn gae_with_lambda_0_is_the_one_step_error(rows in batches(), gamma in 0.0..1.0f32) {
        let got = advantages(&Gae { gamma, lambda: 0.0, ..Gae::default() }, &rows);
        for ((_, reward, tokens), got) in rows.iter().zip(got.iter()) {
            for (t, token) in tokens.iter().enumerate() {
                let ahead = tokens.get(t + 1).map_or(*reward, |next| gamma * next.value);
                assert_close("delta", &got[t..=t], &[ahead - token.value], 1e-5);
            }
        }
    }

    #[test]
    fn exact_values_leave_gae_nothing_to_say(mut rows in batches(), gamma in 0.1..1.0f32) {
        for (_, reward, tokens) in &mut rows {
            let n = tokens.len();
            for (t, token) in tokens.iter_mut().enumerate() {
                token.value = *reward * gamma.powi((n - 1 - t) as i32);
            }
        }
        let got = advantages(&Gae { gamma, lambda: 0.7, ..Gae::default() }, &rows);
        assert_close("exact critic", got.values(), &vec![0.0; got.values().len()], 1e-5);
    }

    #[test]
    fn reinforce_plus_plus_without_discount_or_kl_broadcasts_the_reward(mut rows in batches()) {
        for (_, _, tokens) in &mut rows {
            if let Some(last) = tokens.last_mut() {
                last.mask = true;
            }
        }
        let got = advantages(&ReinforcePlusPlus::default(), &rows);
        prop_assert_eq!(got, advantages(&RawReward, &rows));
    }

    #[test]
    fn whitening_gives_mean_0_and_variance_1_on_the_mask(mut rows in batches()) {
        disagree_twice(&mut rows);
        let mask = trained(&rows);
        let before = advantages(&ReverseKl::default(), &rows);
        let kept = |stream: &Ragged<f32>| -> Vec<f64> {
            let tokens = stream.values().iter().zip(&mask);
            tokens.filter(|&(_, &mask)| mask).map(|(&value, _)| f64::from(value)).collect()
        };
        let moments = |values: &[f64]| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (mean, squares / (n - 1.0))
        };
        let (_, spread) = moments(&kept(&before));
        let (mean, variance) = moments(&kept(&advantages(&ReverseKl::default().whitened(), &rows)));
        prop_assert!(mean.abs() < 1e-5, "mean {mean}");
        prop_assert!((variance - spread / (spread + 1e-8)).abs() < 1e-5, "variance {variance}");
    }

    #[test]
    fn whitening_cancels_the_coefficient(mut rows in batches(), coef in 0.5..2.0f32) {
        for token in rows.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.mask = true;
        }
        disagree_twice(&mut rows);
        let plain = advantages(&ReverseKl::default().whitened(), &rows);
        let scaled = advantages(&ReverseKl { coef, discount: 0.0 }.whitened(), &rows);
        assert_close("whitened", scaled.values(), plain.values(), 1e-5);
    }

    #[test]
    fn masked_tokens_do_not_reach_trained_ones(rows in batches(), noise in -3.0..0.0f32) {
        let mask = trained(&rows);
        prop_assume!(mask.contains(&true));
        let mut disturbed = rows.clone();
        for token in disturbed.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            if !token.mask {
                *token = Token { old: noise, teacher: None, reference: noise / 2.0, value: 9.0, ..*token };
            }
        }
        let mut all = all_estimators();
        all.retain(|(name, _)| *name != "Gae");
        let discounted = ReverseKl { coef: 1.0, discount: 0.9 };
        all.push(("Whitened", Box::new(Rloo.plus(discounted).whitened())));
        for (name, estimator) in all {
            let before = advantages(&estimator, &rows);
            let after = advantages(&estimator, &disturbed);
            for (at, &mask) in mask.iter().enumerate() {
                let (before, after) = (before.values()[at], after.values()[at]);
                prop_assert!(!mask || before == after, "{name}: {after} for {before} at {at}");
            }
        }
    }

    #[test]
    fn pointers_are_estimators(rows in batches()) {
        let signal = ReverseKl { coef: 0.7, discount: 0.5 };
        let expected = advantages(&Rloo.plus(signal), &rows);
        let boxed: Box<dyn AdvantageEstimator> = Box::new(Rloo);
        let shared: Arc<dyn AdvantageEstimator> = Arc::new(signal);
        prop_assert_eq!(advantages(&(&boxed).plus(shared.clone()), &rows), expected.clone());
        prop_assert_eq!(advantages(&boxed.plus(&*shared), &rows), expected);
    }
}
