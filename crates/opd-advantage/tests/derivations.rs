//! Formulas without golden vectors, and corners of those with, worked out in `f64` by another way.
#![allow(clippy::unwrap_used)]

use opd_advantage::{
    AdvantageEstimator, DrGrpo, Gae, Grpo, RawReward, ReinforcePlusPlus, ReinforcePlusPlusBaseline,
    ReverseKl, Rloo, ZeroAdvantage,
};
use opd_batch::{KlEstimator, Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};

/// One rollout of `mask.len()` tokens whose log-probs are all -1.
fn rollout(group: u32, reward: f32, mask: &[bool]) -> Rollout {
    Rollout {
        prompt: vec![1],
        response: vec![2; mask.len()],
        sampler_logprobs: vec![-1.0; mask.len()],
        loss_mask: Some(mask.to_vec()),
        reward,
        group,
        ..Rollout::default()
    }
}

fn batch(rollouts: impl IntoIterator<Item = Rollout>) -> RolloutBatch {
    RolloutBatch::from_rollouts(rollouts.into_iter().collect()).unwrap()
}

/// Two interleaved groups, of three and of two, and a group of one.
const REWARDS: [(u32, f32); 6] = [(9, 1.0), (4, -0.5), (9, 0.25), (1, 3.0), (4, 2.5), (9, -2.0)];

fn interleaved() -> RolloutBatch {
    batch(REWARDS.map(|(group, reward)| rollout(group, reward, &[true, true])))
}

fn first_of_each_row(advantages: &Ragged<f32>) -> Vec<f64> {
    assert!(advantages.iter().all(|row| row.iter().all(|value| *value == row[0])));
    advantages.iter().map(|row| f64::from(row[0])).collect()
}

fn others(row: usize) -> Vec<f64> {
    let (group, _) = REWARDS[row];
    let others = REWARDS.iter().enumerate().filter(|&(i, &(g, _))| i != row && g == group);
    others.map(|(_, &(_, reward))| f64::from(reward)).collect()
}

fn assert_rows(got: &[f64], expected: impl Fn(usize) -> f64) {
    for (row, got) in got.iter().enumerate() {
        let expected = expected(row);
        assert!((got - expected).abs() <= 1e-6, "row {row}: {got} for {expected}");
    }
}

#[test]
fn rloo_leaves_each_reward_out_of_its_own_baseline() {
    let batch = interleaved();
    let got = Rloo.advantages(&ScoredBatch::from_sampler(&batch)).unwrap();
    assert_rows(&first_of_each_row(&got), |row| {
        let others = others(row);
        if others.is_empty() {
            return 0.0;
        }
        f64::from(REWARDS[row].1) - others.iter().sum::<f64>() / others.len() as f64
    });
}

#[test]
fn dr_grpo_is_the_mean_difference_to_all_members() {
    let batch = interleaved();
    let got = DrGrpo.advantages(&ScoredBatch::from_sampler(&batch)).unwrap();
    assert_rows(&first_of_each_row(&got), |row| {
        let (others, reward) = (others(row), f64::from(REWARDS[row].1));
        let differences = others.iter().map(|other| reward - other);
        differences.sum::<f64>() / (others.len() + 1) as f64
    });
}

#[test]
fn grpo_divides_by_the_root_mean_square_of_pairwise_differences() {
    let batch = interleaved();
    let got = Grpo.advantages(&ScoredBatch::from_sampler(&batch)).unwrap();
    assert_rows(&first_of_each_row(&got), |row| {
        let reward = f64::from(REWARDS[row].1);
        let mut all = others(row);
        if all.is_empty() {
            return 0.0;
        }
        all.push(reward);
        let n = all.len() as f64;
        let centred = all.iter().map(|other| reward - other).sum::<f64>() / n;
        let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a - b).powi(2)));
        let variance = pairs.sum::<f64>() / (2.0 * n * (n - 1.0));
        centred / (variance.sqrt() + 1e-6)
    });
}

#[test]
fn equal_rewards_say_nothing() {
    for reward in [0.0, 0.1, 1e30] {
        let batch = batch([0, 0, 0].map(|group| rollout(group, reward, &[true])));
        let scored = ScoredBatch::from_sampler(&batch);
        for estimator in [&Grpo as &dyn AdvantageEstimator, &DrGrpo, &Rloo] {
            assert_eq!(estimator.advantages(&scored).unwrap().values(), [0.0; 3]);
        }
    }
}

#[test]
fn bases_without_a_group() {
    let batch = batch([rollout(0, 0.75, &[true, false]), rollout(0, -1.0, &[true])]);
    let scored = ScoredBatch::from_sampler(&batch);
    assert_eq!(RawReward.advantages(&scored).unwrap().values(), [0.75, 0.75, -1.0]);
    assert_eq!(ZeroAdvantage.advantages(&scored).unwrap().values(), [0.0; 3]);
}

#[test]
fn reinforce_plus_plus_pays_at_the_last_token_with_mask_1() {
    let batch = batch([
        rollout(0, 8.0, &[true, true, false, false]),
        rollout(0, 8.0, &[false, false]),
        rollout(0, 8.0, &[true, true]),
    ]);
    let reference = Ragged::filled(batch.rows().clone(), -2.0);
    let scored = ScoredBatch::from_sampler(&batch).with_reference(reference).unwrap();
    let estimator = ReinforcePlusPlus { kl_coef: 2.0, kl: KlEstimator::K1, gamma: 0.5 };
    // Each token with mask 1 pays 2 * 1 nat.
    let expected = [-2.0 + 0.5 * 6.0, 6.0, 0.0, 0.0, 0.0, 0.0, -2.0 + 0.5 * 6.0, 6.0];
    assert_eq!(estimator.advantages(&scored).unwrap().values(), expected);
}

#[test]
fn reinforce_plus_plus_keeps_its_rewards_where_the_teacher_is_silent() {
    let batch = batch([rollout(0, 8.0, &[true, true])]);
    let silent = TeacherScores {
        logprobs: Ragged::from_rows([vec![Some(-1.0), None]]),
        top: None,
        spans: None,
    };
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(silent).unwrap();
    let estimator = ReinforcePlusPlus { gamma: 0.5, ..ReinforcePlusPlus::default() };
    assert_eq!(estimator.advantages(&scored).unwrap().values(), [4.0, 8.0]);
}

#[test]
fn each_kl_estimator_reaches_the_penalty() {
    let batch = batch([rollout(0, 0.0, &[true])]);
    let reference = Ragged::filled(batch.rows().clone(), -1.5);
    let scored = ScoredBatch::from_sampler(&batch).with_reference(reference).unwrap();
    let d = 0.5f64;
    let k3 = (-d).exp() - 1.0 + d;
    for (kl, expected) in [
        (KlEstimator::K1, d),
        (KlEstimator::K2, d * d / 2.0),
        (KlEstimator::K3, k3),
        (KlEstimator::LowVar, k3),
    ] {
        let plain = ReinforcePlusPlus { kl_coef: 2.0, kl, gamma: 1.0 };
        let baseline = ReinforcePlusPlusBaseline { kl_coef: 2.0, kl };
        for estimator in [&plain as &dyn AdvantageEstimator, &baseline] {
            let got = estimator.advantages(&scored).unwrap().values()[0];
            assert!((f64::from(got) + 2.0 * expected).abs() < 1e-6, "{kl:?}: {got}");
        }
    }
}

#[test]
fn gae_by_its_other_formula() {
    // A_t = sum_s (gamma * lambda)^(s-t) * delta_s, written out.
    let batch = batch([rollout(0, 2.0, &[true, true, true]), rollout(0, 1.0, &[true])]);
    let values = Ragged::from_rows([vec![0.5, -1.0, 4.0], vec![3.0]]);
    let scored = ScoredBatch::from_sampler(&batch).with_values(values).unwrap();
    let gae = Gae { gamma: 0.5, lambda: 0.25, ..Gae::default() };
    let got = gae.estimate(&scored).unwrap();
    let delta = [-0.5 * 1.0 - 0.5, 0.5 * 4.0 + 1.0, 2.0 - 4.0];
    let advantages = [
        delta[0] + 0.125 * delta[1] + 0.015625 * delta[2],
        delta[1] + 0.125 * delta[2],
        delta[2],
        1.0 - 3.0,
    ];
    assert_eq!(got.advantages.values(), advantages);
    let returns = [advantages[0] + 0.5, advantages[1] - 1.0, advantages[2] + 4.0, 1.0];
    assert_eq!(got.returns.values(), returns);
    assert_eq!(gae.advantages(&scored).unwrap(), got.advantages);
}

#[test]
fn reverse_kl_skips_masked_and_unscored_tokens_and_stays_in_its_row() {
    let batch = batch([rollout(0, 5.0, &[true, true, false, true]), rollout(0, 5.0, &[true])]);
    let logprobs =
        Ragged::from_rows([vec![Some(-2.0), None, Some(-9.0), Some(-0.5)], vec![Some(-3.0)]]);
    let teacher = TeacherScores { logprobs, top: None, spans: None };
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(teacher).unwrap();
    let of = |coef, discount| {
        let signal = ReverseKl { coef, discount };
        signal.advantages(&scored).unwrap().into_values()
    };
    assert_eq!(of(2.0, 0.0), [-2.0, 0.0, 0.0, 1.0, -4.0]);
    assert_eq!(of(2.0, 0.5), [-2.0 + 0.125, 0.25, 0.5, 1.0, -4.0]);
    assert_eq!(of(2.0, 1.0), [-1.0, 1.0, 1.0, 1.0, -4.0]);
    assert_eq!(of(0.0, 1.0), [0.0; 5]);
}

#[test]
fn whitening_one_token_gives_zero() {
    let batch = batch([rollout(0, 5.0, &[true, false])]);
    let got = RawReward.whitened().advantages(&ScoredBatch::from_sampler(&batch)).unwrap();
    assert_eq!(got.values(), [0.0, 0.0]);
}
