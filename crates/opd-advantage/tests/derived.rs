//! Estimators that the published vectors do not cover, against `data/make_derived.py`.
#![allow(clippy::unwrap_used)]

use opd_advantage::{
    AdvantageEstimator, Baseline, BySource, DiscountedReturn, ExtrapolatedKl, FutureKl, MaxRl, Opo,
    PassAtK, ReverseKl, Rloo, Truncation,
};
use opd_batch::{Finish, Ragged, Rollout, RolloutBatch, ScoredBatch, Source, TeacherScores};
use serde_json::Value;

fn numbers(json: &Value) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn rollout(row: &Value) -> Rollout {
    let old = numbers(&row["old"]);
    let mask = row["mask"].as_array().unwrap().iter().map(|mask| mask.as_bool().unwrap());
    Rollout {
        prompt: vec![0],
        response: vec![0; old.len()],
        sampler_logprobs: old,
        loss_mask: Some(mask.collect()),
        reward: row["reward"].as_f64().unwrap() as f32,
        group: row["group"].as_u64().unwrap() as u32,
        source: Source::new(row["source"].as_str().unwrap()),
        ..Rollout::default()
    }
}

fn estimators() -> Vec<(&'static str, Box<dyn AdvantageEstimator>)> {
    let returns = |gamma, baseline| Box::new(DiscountedReturn { gamma, baseline });
    let beyond = |coef, lambda, discount| Box::new(ExtrapolatedKl { coef, lambda, discount });
    let signal = ReverseKl::default();
    let factors = [(Source::new("code"), 0.25)].into();
    let by_source = BySource { inner: signal, factors, others: 1.0 };
    vec![
        ("opo", Box::new(Opo)),
        ("rloo", Box::new(Rloo)),
        ("max_rl", Box::new(MaxRl)),
        ("pass_at_1", Box::new(PassAtK { k: 1 })),
        ("pass_at_2", Box::new(PassAtK { k: 2 })),
        ("pass_at_3", Box::new(PassAtK { k: 3 })),
        ("return_none_0.9", returns(0.9, Baseline::None)),
        ("return_batch_mean_1", returns(1.0, Baseline::BatchMean)),
        ("return_group_mean_0.9", returns(0.9, Baseline::GroupMean)),
        ("return_leave_one_out_0.5", returns(0.5, Baseline::LeaveOneOut)),
        ("extrapolated_0.7_1.5_0", beyond(0.7, 1.5, 0.0)),
        ("extrapolated_1_0.5_0.9", beyond(1.0, 0.5, 0.9)),
        ("extrapolated_1_1_0", beyond(1.0, 1.0, 0.0)),
        ("prefix_weighted_0.5", Box::new(signal.prefix_weighted(0.5))),
        ("prefix_ratio_1", Box::new(signal.prefix_ratio(1.0))),
        ("prefix_ratio_0.3", Box::new(signal.prefix_ratio(0.3))),
        ("future_0.7", Box::new(FutureKl { coef: 0.7, ..FutureKl::default() })),
        ("future_sum_0.7", Box::new(FutureKl { coef: 0.7, length_normalised: false })),
        ("by_source_code_0.25", Box::new(by_source)),
    ]
}

#[test]
fn every_estimator_on_every_token() {
    let data: Value = serde_json::from_str(include_str!("data/derived.json")).unwrap();
    let cases = data["cases"].as_array().unwrap();
    assert!(cases.len() >= 3);
    for (i, case) in cases.iter().enumerate() {
        let rows = case["rows"].as_array().unwrap();
        let batch = RolloutBatch::from_rollouts(rows.iter().map(rollout).collect()).unwrap();
        let teacher = rows.iter().map(|row| {
            let scores = row["teacher"].as_array().unwrap().iter();
            scores.map(|score| score.as_f64().map(|score| score as f32)).collect()
        });
        let logprobs = Ragged::from_rows(teacher);
        let reference = Ragged::from_rows(rows.iter().map(|row| numbers(&row["reference"])));
        let scored = ScoredBatch::from_sampler(&batch).with_reference(reference).unwrap();
        let scored =
            scored.with_teacher(TeacherScores { logprobs, top: None, spans: None }).unwrap();
        for (name, estimator) in estimators() {
            let got = estimator.advantages(&scored).unwrap();
            let want = case["expected"][name].as_array().unwrap();
            let want: Vec<f32> = want.iter().flat_map(numbers).collect();
            assert_eq!(got.values().len(), want.len(), "{name}");
            for (at, (got, want)) in got.values().iter().zip(want).enumerate() {
                let close = (got - want).abs() <= 1e-6 + 1e-5 * want.abs();
                assert!(close, "case {i}, {name}, token {at}: {got}, expected {want}");
            }
        }
    }
}

/// Expected sum of `A_i score_i` over all outcomes of `n` answers that are right with
/// probability `p`; the score of an answer is `d log P / dp`.
fn expected_gradient(estimator: &dyn AdvantageEstimator, n: u32, p: f64) -> f64 {
    (0..1u32 << n)
        .map(|outcome| {
            let right = |i: u32| outcome >> i & 1 == 1;
            let rollout = |i| Rollout {
                prompt: vec![0],
                response: vec![0],
                sampler_logprobs: vec![-1.0],
                reward: if right(i) { 1.0 } else { 0.0 },
                ..Rollout::default()
            };
            let batch = RolloutBatch::from_rollouts((0..n).map(rollout).collect()).unwrap();
            let advantages = estimator.advantages(&ScoredBatch::from_sampler(&batch)).unwrap();
            let score = |i| if right(i) { 1.0 / p } else { -1.0 / (1.0 - p) };
            let gain = (0..n).map(|i| f64::from(advantages.values()[i as usize]) * score(i));
            let weight: f64 = (0..n).map(|i| if right(i) { p } else { 1.0 - p }).product();
            weight * gain.sum::<f64>() / f64::from(n)
        })
        .sum()
}

#[test]
fn max_rl_approaches_the_gradient_of_the_log_of_the_pass_rate() {
    for p in [0.3, 0.6] {
        // With n answers it follows the first n - 1 terms of d/dp log p = sum_k (1-p)^(k-1).
        for n in [2, 6, 10] {
            let terms: f64 = (0..n as i32 - 1).map(|k| (1.0f64 - p).powi(k)).sum();
            let got = expected_gradient(&MaxRl, n, p);
            assert!((got - terms).abs() < 1e-5, "p {p}, n {n}: {got}, expected {terms}");
        }
        assert!((expected_gradient(&Rloo, 6, p) - 1.0).abs() < 1e-5, "RLOO follows p itself");
    }
}

#[test]
fn truncated_responses() {
    let rollout = |n: usize, finish| Rollout {
        prompt: vec![0],
        response: vec![0; n],
        sampler_logprobs: vec![-1.0; n],
        reward: 1.0,
        finish,
        ..Rollout::default()
    };
    let of = |truncation: Truncation| {
        let lengths = [(4, Finish::Eos), (7, Finish::Eos), (8, Finish::Length), (6, Finish::Eos)];
        let mut rollouts = lengths.map(|(n, finish)| rollout(n, finish));
        truncation.apply(&mut rollouts).unwrap();
        rollouts.map(|rollout| (rollout.reward, rollout.loss_mask.map(|mask| mask.contains(&true))))
    };
    let kept = (1.0, None);
    assert_eq!(of(Truncation::Keep), [kept; 4]);
    assert_eq!(of(Truncation::Mask), [kept, kept, (1.0, Some(false)), kept]);
    assert_eq!(of(Truncation::Penalise { penalty: 0.25 }), [kept, kept, (0.75, None), kept]);
    // The punishment starts after 4 of 8 tokens.
    let overlong = Truncation::Overlong { limit: 8, buffer: 4, penalty: 1.0 };
    assert_eq!(of(overlong), [kept, (0.25, None), (0.0, None), (0.5, None)]);
    for (bad, message) in [
        (
            Truncation::Overlong { limit: 8, buffer: 9, penalty: 1.0 },
            "Truncation: `buffer` must be from 1 to the limit, got 9",
        ),
        (
            Truncation::Overlong { limit: 8, buffer: 0, penalty: 1.0 },
            "Truncation: `buffer` must be from 1 to the limit, got 0",
        ),
        (
            Truncation::Penalise { penalty: -1.0 },
            "Truncation: `penalty` must be finite and at least 0, got -1",
        ),
    ] {
        assert_eq!(bad.apply(&mut []).unwrap_err().to_string(), message);
    }
}
