//! The scans of the kernels are those that the estimators define.
#![allow(clippy::unwrap_used)]

use opd_core::{
    advantage::{AdvantageEstimator, DiscountedReturn, Gae},
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch},
    candle::{Device, Tensor},
    kernels::{advantages_and_returns, discounted_sums},
};

/// Rows of one token, of a few, and of more than a GPU scans at once.
const LENGTHS: [usize; 6] = [1, 7, 31, 32, 33, 200];

/// Repeatable numbers in `-1..1`.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn rollouts() -> RolloutBatch {
    let rewards = numbers(LENGTHS.len(), 1);
    let rollouts = LENGTHS.iter().zip(rewards).map(|(&n, reward)| Rollout {
        prompt: vec![0],
        response: vec![0; n],
        sampler_logprobs: vec![-1.0; n],
        reward: 3.0 * reward,
        ..Rollout::default()
    });
    RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
}

/// Where the rows start, and the end of the last.
fn starts() -> Vec<usize> {
    let ends = LENGTHS.iter().scan(0, |end, n| {
        *end += n;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// The reward of each rollout at its last token.
fn at_last_tokens(rollouts: &RolloutBatch) -> Tensor {
    let starts = starts();
    let mut rewards = vec![0f32; starts[LENGTHS.len()]];
    for (row, reward) in starts.windows(2).zip(rollouts.rewards()) {
        rewards[row[1] - 1] = *reward;
    }
    Tensor::new(rewards, &Device::Cpu).unwrap()
}

/// Both are rounded to f32 once, from sums in f64 whose order may differ.
#[track_caller]
fn assert_same(got: &Tensor, want: &[f32]) {
    let got = got.to_vec1::<f32>().unwrap();
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let near = (got - want).abs() <= f32::EPSILON * want.abs();
        assert!(near, "token {i}: {got}, expected {want}");
    }
}

#[test]
fn discounted_sums_are_discounted_returns() {
    let rollouts = rollouts();
    let batch = ScoredBatch::from_sampler(&rollouts);
    for gamma in [0.0, 0.97, 1.0] {
        let want = DiscountedReturn { gamma, ..DiscountedReturn::default() };
        let want = want.advantages(&batch).unwrap();
        let got = discounted_sums(&at_last_tokens(&rollouts), &starts(), f64::from(gamma)).unwrap();
        assert_same(&got, want.values());
    }
}

#[test]
fn advantages_and_returns_are_those_of_gae() {
    let rollouts = rollouts();
    let values = numbers(rollouts.rows().n_tokens(), 2);
    let of_tokens = Ragged::new("values", rollouts.rows().clone(), values.clone()).unwrap();
    let batch = ScoredBatch::from_sampler(&rollouts).with_values(of_tokens).unwrap();
    let values = Tensor::new(values, &Device::Cpu).unwrap();
    for (gamma, lambda) in [(1.0, 1.0), (0.99, 0.95), (0.9, 0.0), (0.0, 1.0)] {
        let want = Gae { gamma, lambda, ..Gae::default() }.estimate(&batch).unwrap();
        let rewards = at_last_tokens(&rollouts);
        let (gamma, lambda) = (f64::from(gamma), f64::from(lambda));
        let (advantages, returns) =
            advantages_and_returns(&rewards, &values, &starts(), gamma, lambda).unwrap();
        assert_same(&advantages, want.advantages.values());
        assert_same(&returns, want.returns.values());
    }
}
