//! Weights for sampler mismatch and left sequences, and the value loss: golden vectors, other
//! ways to the same numbers, both sides of every bound.

use candle_core::DType;
use opd_batch::{Ragged, Rollout, RolloutBatch, ScoredBatch};
use opd_loss::{
    Aggregation, Gspo, ImportanceSampling, LossBatch, Outside, PolicyInputs, PolicyLoss, PpoClip,
    SamplerCorrection, SequenceMask, TokenWeights, ValueLoss,
};
use opd_loss::{Cispo, Grain};
use proptest::prelude::*;
use serde_json::Value;

use super::{assert_close, golden, gradient, host, scalar, var};

/// Taken off every log-prob of the vectors, whose sampler's are noisy and some above 0:
/// everything here depends on differences alone.
const SHIFT: f32 = 1.0;

fn shifted(rows: &Value) -> Vec<Vec<f32>> {
    let rows = golden::rows(rows).into_iter();
    rows.map(|row| row.into_iter().map(|value| value - SHIFT).collect()).collect()
}

fn student(case: &Value) -> candle_core::Var {
    let values = golden::numbers(&case["current_log_probs"]).into_iter();
    let values: Vec<f64> = values.map(|value| value - f64::from(SHIFT)).collect();
    var(&values, values.len(), DType::F64)
}

/// A case of the golden vectors with the sampler's own log-probs.
fn batch(case: &Value) -> LossBatch {
    let [old, sampler] = ["old_log_probs", "rollout_log_probs"].map(|key| shifted(&case[key]));
    let masks = golden::rows(&case["loss_masks"]);
    let rollout = |(sampler, mask): (Vec<f32>, &Vec<f32>)| Rollout {
        prompt: vec![1],
        response: vec![1; sampler.len()],
        sampler_logprobs: sampler,
        loss_mask: Some(mask.iter().map(|&mask| mask == 1.0).collect()),
        ..Rollout::default()
    };
    let rollouts = sampler.into_iter().zip(&masks).map(rollout).collect();
    let rollouts = RolloutBatch::from_rollouts(rollouts).unwrap();
    let scored = ScoredBatch::new(&rollouts, Ragged::from_rows(old)).unwrap();
    let advantages = Ragged::from_rows(golden::rows(&case["advantages"]));
    LossBatch::new(&scored, advantages, &Aggregation::SequenceMeanTokenMean).unwrap()
}

fn close(what: &str, batch: &LossBatch, got: Vec<f64>, want: &Value) {
    let want = golden::trained(golden::numbers(want), batch);
    assert_close(what, &golden::trained(got, batch), &want, golden::tolerance);
}

#[test]
fn golden_weights() {
    let (mut cut, mut whole) = (false, false);
    for (i, case) in golden::cases().iter().enumerate() {
        let batch = batch(case);
        let student = student(case);
        let inputs = PolicyInputs::new(&student, &batch).unwrap();
        let bounds = golden::numbers(&case["tis_bounds"]);
        let token = |outside| SamplerCorrection {
            grain: Grain::Token,
            outside,
            low: bounds[0],
            high: bounds[1],
        };
        let named: [(&str, Box<dyn TokenWeights>); 3] = [
            ("tis_weights", Box::new(token(Outside::Truncate))),
            ("icepop_weights", Box::new(token(Outside::Reject))),
            ("opsm_mask", Box::new(SequenceMask { delta: case["opsm_delta"].as_f64().unwrap() })),
        ];
        for (key, weights) in named {
            let got = host(&weights.weights(&inputs).unwrap());
            cut |= got.contains(&0.0);
            whole |= got.contains(&1.0);
            close(&format!("case {i}, {key}"), &batch, got, &case[key]);
            // The factor reaches value and gradient of any loss, and nothing else.
            let plain = PpoClip::default().loss(&student, &batch).unwrap();
            let weighted = PpoClip::default().weighted(weights).loss(&student, &batch).unwrap();
            let factors = golden::numbers(&case[key]);
            let want = host(&plain.per_token).into_iter().zip(&factors).map(|(l, w)| l * w);
            let want: Vec<f64> = want.collect();
            let tolerance = |x: f64| 1e-6 + 2e-6 * x.abs();
            let got = golden::trained(host(&weighted.per_token), &batch);
            assert_close(key, &got, &golden::trained(want, &batch), tolerance);
            let want = gradient(&plain.loss, &student).into_iter().zip(&factors);
            let want: Vec<f64> = want.map(|(g, w)| g * w).collect();
            let got = golden::trained(gradient(&weighted.loss, &student), &batch);
            assert_close(key, &got, &golden::trained(want, &batch), tolerance);
        }
    }
    assert!(cut && whole, "the vectors enter both branches");
}

#[test]
fn golden_value_loss() {
    let mut flags = Vec::new();
    for (i, case) in golden::cases().iter().enumerate() {
        let batch = batch(case);
        let expected = &case["value_loss"];
        let values = golden::numbers(&expected["new_values"]);
        let [old, returns] =
            ["values", "returns"].map(|key| Ragged::from_rows(golden::rows(&case[key])));
        let loss = ValueLoss { clip: expected["value_clip"].as_f64().unwrap() };
        for dtype in [DType::F32, DType::F64] {
            let values = var(&values, values.len(), dtype);
            let output = loss.loss(&values, &old, &returns, &batch).unwrap();
            let sequences = batch.n_rows() as f64;
            let what = format!("case {i}, {dtype:?}");
            let got = [sequences * scalar(&output.loss)];
            assert_close(&what, &got, &golden::numbers(&expected["loss"]), golden::tolerance);
            let got = gradient(&output.loss, &values).into_iter().map(|g| g * sequences);
            let got: Vec<f64> = got.collect();
            assert_close(&what, &got, &golden::numbers(&expected["grad"]), golden::tolerance);
            flags.extend(golden::trained(host(&output.clipped), &batch));
        }
    }
    assert!(flags.contains(&0.0) && flags.contains(&1.0));
}

/// One row per list of `(old, sampler)`.
fn pairs(rows: &[Vec<(f32, f32)>]) -> LossBatch {
    let rollout = |row: &Vec<(f32, f32)>| Rollout {
        prompt: vec![1],
        response: vec![1; row.len()],
        sampler_logprobs: row.iter().map(|(_, sampler)| *sampler).collect(),
        ..Rollout::default()
    };
    let rollouts = RolloutBatch::from_rollouts(rows.iter().map(rollout).collect()).unwrap();
    let old = rows.iter().map(|row| row.iter().map(|(old, _)| *old).collect());
    let scored = ScoredBatch::new(&rollouts, Ragged::from_rows(old)).unwrap();
    let ones = Ragged::filled(rollouts.rows().clone(), 1.0);
    LossBatch::new(&scored, ones, &Aggregation::TokenMean).unwrap()
}

#[test]
fn each_grain_and_each_way_out() {
    // Ratios 2, 1/4 and 1 in one row: product 1/2, geometric mean 2^(-1/3); 4 alone.
    let ln2 = std::f32::consts::LN_2;
    let batch = pairs(&[
        vec![(-1.0, -1.0 - ln2), (-1.0 - 2.0 * ln2, -1.0), (-0.5, -0.5)],
        vec![(-1.0, -1.0 - 2.0 * ln2)],
    ]);
    let of = |grain, outside, low, high| {
        let correction = SamplerCorrection { grain, outside, low, high };
        let weights = correction.of(&batch).unwrap();
        weights.into_values().into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let near = |got: Vec<f64>, want: [f64; 4]| assert_close("weights", &got, &want, |_| 1e-6);
    near(of(Grain::Token, Outside::Truncate, 0.5, 3.0), [2.0, 0.5, 1.0, 3.0]);
    near(of(Grain::Token, Outside::Reject, 0.5, 3.0), [2.0, 0.0, 1.0, 0.0]);
    near(of(Grain::Token, Outside::Mask, 0.5, 3.0), [1.0, 0.0, 1.0, 0.0]);
    near(of(Grain::Sequence, Outside::Truncate, 0.6, 3.0), [0.6, 0.6, 0.6, 3.0]);
    near(of(Grain::Sequence, Outside::Reject, 0.0, 3.0), [0.5, 0.5, 0.5, 0.0]);
    let mean = 2f64.powf(-1.0 / 3.0);
    near(of(Grain::Geometric, Outside::Reject, 0.0, 9.0), [mean, mean, mean, 4.0]);
    near(of(Grain::Geometric, Outside::Mask, 0.7, 1.5), [1.0, 1.0, 1.0, 0.0]);
    for (low, high) in [(-0.1, 2.0), (f64::NAN, 2.0), (0.0, 0.0), (3.0, 2.0), (0.0, f64::INFINITY)]
    {
        let bad = SamplerCorrection { low, high, ..SamplerCorrection::tis() };
        assert!(bad.of(&batch).unwrap_err().to_string().contains("sampler correction"));
    }
}

#[test]
fn an_expected_gradient_under_the_sampler_is_that_of_the_policy() {
    // sum_y u(y) w(y) A(y) d log p(y) = sum_y p(y) A(y) d log p(y), in every outcome's log-prob.
    let p = [0.5f64, 0.3, 0.2];
    let u = [0.6f64, 0.3, 0.1];
    let advantage = [1.0f32, -0.5, 2.0];
    let row = |y: usize| vec![(p[y].ln() as f32, u[y].ln() as f32)];
    let batch = pairs(&[row(0), row(1), row(2)]);
    let weights = SamplerCorrection::tis().of(&batch).unwrap();
    for y in 0..3 {
        let weighted = u[y] * f64::from(weights.values()[y]) * f64::from(advantage[y]);
        assert!((weighted - p[y] * f64::from(advantage[y])).abs() < 1e-6);
    }
}

#[test]
fn a_sequence_that_was_left_is_not_pushed_further_down() {
    let batch = pairs(&[vec![(-1.0, -1.0); 3], vec![(-1.0, -1.0); 3]]);
    // The first row has become less likely by 0.1 a token, the second more likely.
    let student = var(&[-1.3, -1.0, -1.0, -0.9, -1.0, -0.9], 6, DType::F64);
    let inputs = PolicyInputs::new(&student, &batch).unwrap();
    let of = |delta| host(&SequenceMask { delta }.weights(&inputs).unwrap());
    assert_eq!(of(1e-4), [1.0; 6], "every advantage is positive");
    for delta in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(SequenceMask { delta }.weights(&inputs).is_err());
    }
    let rollout = Rollout {
        prompt: vec![1],
        response: vec![1; 3],
        sampler_logprobs: vec![-1.0; 3],
        ..Rollout::default()
    };
    let rollouts = RolloutBatch::from_rollouts(vec![rollout.clone(), rollout]).unwrap();
    let scored = ScoredBatch::from_sampler(&rollouts);
    let signs = Ragged::from_rows([vec![-1.0, 1.0, -1.0], vec![-1.0; 3]]);
    let batch = LossBatch::new(&scored, signs, &Aggregation::TokenMean).unwrap();
    let inputs = PolicyInputs::new(&student, &batch).unwrap();
    let of = |delta| host(&SequenceMask { delta }.weights(&inputs).unwrap());
    assert_eq!(of(0.09), [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
    assert_eq!(of(0.11), [1.0; 6]);
}

#[test]
fn value_gradient_on_each_side_of_each_branch() {
    // Around an old value of 0 and a clip of 0.2: inside, outside towards the return (clipped),
    // outside away from it (free), for returns on both sides.
    let values = [0.1, 0.5, -0.5, 0.1, 0.5, -0.5];
    let returns = Ragged::from_rows([vec![1.0f32, 1.0, 1.0, -1.0, -1.0, -1.0]]);
    let old = Ragged::from_rows([vec![0.0f32; 6]]);
    let batch = pairs(&[vec![(-1.0, -1.0); 6]]);
    let loss = |values: &[f64]| {
        let values = var(values, values.len(), DType::F64);
        let output = ValueLoss::default().loss(&values, &old, &returns, &batch).unwrap();
        (scalar(&output.loss), gradient(&output.loss, &values), host(&output.clipped))
    };
    let (_, analytic, clipped) = loss(&values);
    assert_eq!(clipped, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    for (i, analytic) in analytic.into_iter().enumerate() {
        let at = |step: f64| {
            let mut values = values;
            values[i] += step;
            loss(&values).0
        };
        let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((analytic - numeric).abs() < 1e-8, "entry {i}: {analytic} vs {numeric}");
    }
    let detached = var(&values, 6, DType::F64).as_detached_tensor();
    let error = ValueLoss::default().loss(&detached, &old, &returns, &batch).unwrap_err();
    assert!(error.to_string().contains("values carries no graph"), "{error}");
    let values = var(&values, 6, DType::F64);
    let error = ValueLoss { clip: -0.1 }.loss(&values, &old, &returns, &batch).unwrap_err();
    assert!(error.to_string().contains("value clip must be"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Micro-batches of whole rows, in any order, add up to the batch under every correction.
    #[test]
    fn corrected_losses_do_not_depend_on_the_cut(
        rows in prop::collection::vec(
            prop::collection::vec((-3.0f32..-0.1, -3.0f32..-0.1), 1..6), 2..6),
        split in 1usize..5,
    ) {
        let batch = pairs(&rows);
        let n = batch.n_tokens();
        let values: Vec<f64> = rows.iter().flatten().map(|(old, _)| f64::from(*old) * 0.9).collect();
        let geometric = SamplerCorrection {
            grain: Grain::Geometric,
            outside: Outside::Mask,
            low: 0.5,
            high: 2.0,
        };
        let losses: [Box<dyn PolicyLoss>; 4] = [
            Box::new(PpoClip::default().weighted(SamplerCorrection::tis())),
            Box::new(ImportanceSampling.weighted(SamplerCorrection::masked_sequences())),
            Box::new(Gspo::default().weighted(geometric).weighted(SequenceMask::default())),
            Box::new(Cispo::default().weighted(SamplerCorrection::ice_pop())),
        ];
        for loss in losses {
            let student = var(&values, n, DType::F64);
            let whole = loss.loss(&student, &batch).unwrap();
            let split = split.min(rows.len() - 1);
            let (mut sum, mut at) = (0.0, 0);
            for part in [0..split, split..rows.len()] {
                let part: Vec<usize> = part.collect();
                let tokens: usize = part.iter().map(|&row| rows[row].len()).sum();
                let student = var(&values[at..at + tokens], tokens, DType::F64);
                at += tokens;
                sum += scalar(&loss.loss(&student, &batch.select(&part).unwrap()).unwrap().loss);
            }
            assert_close("loss", &[sum], &[scalar(&whole.loss)], |x| 1e-12 * (1.0 + x.abs()));
        }
    }
}
