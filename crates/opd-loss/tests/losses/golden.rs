use candle_core::DType;
use opd_batch::KlEstimator;
use opd_loss::{
    Aggregation, Cispo, Clip, Gspo, ImportanceSampling, LossBatch, PolicyInputs, PolicyLoss,
    PpoClip, ReferenceKl, Reinforce,
};
use serde_json::Value;

use super::{Batch, assert_close, gradient, host, scalar, var};

const DATA: &str = include_str!("../data/losses.json");

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

pub(super) fn rows(value: &Value) -> Vec<Vec<f32>> {
    let row = |row: &Value| numbers(row).into_iter().map(|x| x as f32).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

/// What the float32 numbers themselves support.
pub(super) fn tolerance(want: f64) -> f64 {
    1e-6 + 1e-5 * want.abs()
}

fn losses(case: &Value) -> Vec<(&'static str, Box<dyn PolicyLoss>)> {
    let eps = |name: &str| case[name].as_f64().unwrap() as f32;
    let clip = Clip { below: eps("eps_clip"), above: eps("eps_clip_high") };
    vec![
        ("ppo_clip", Box::new(PpoClip { clip, dual: None })),
        ("ppo_dual_clip", Box::new(PpoClip { clip, dual: Some(eps("eps_clip_c")) })),
        ("cispo", Box::new(Cispo { clip: Clip { below: 1.0, above: 4.0 } })),
        ("gspo", Box::new(Gspo { clip: Clip { below: 3e-4, above: 4e-4 } })),
        ("importance_sampling", Box::new(ImportanceSampling)),
        ("reinforce", Box::new(Reinforce)),
    ]
}

fn batch(case: &Value) -> Batch {
    let mask = rows(&case["loss_masks"]);
    let mask = mask.iter().map(|row| row.iter().map(|&m| m == 1.0).collect()).collect();
    let batch = Batch::new(rows(&case["old_log_probs"]), rows(&case["advantages"]), mask);
    Batch { reference: Some(rows(&case["ref_log_probs"])), ..batch }
}

/// The values of the tokens that are trained on.
pub(super) fn trained(values: Vec<f64>, batch: &LossBatch) -> Vec<f64> {
    let pairs = values.into_iter().zip(batch.mask().values());
    pairs.filter(|(_, trained)| **trained).map(|(value, _)| value).collect()
}

pub(super) fn cases() -> Vec<Value> {
    let data: Value = serde_json::from_str(DATA).unwrap();
    data["cases"].as_array().unwrap().clone()
}

#[test]
fn policy_losses() {
    for (i, case) in cases().iter().enumerate() {
        let plain = batch(case);
        let sequences = plain.old.len() as f64;
        for (name, loss) in losses(case) {
            for (aggregation, key, scale) in [
                (Aggregation::SequenceMeanTokenMean, "sample_mean", sequences),
                (Aggregation::TokenSum, "token_sum", 1.0),
            ] {
                for dtype in [DType::F32, DType::F64] {
                    let batch = plain.build(&aggregation).unwrap();
                    let student = numbers(&case["current_log_probs"]);
                    let student = var(&student, student.len(), dtype);
                    let output = loss.loss(&student, &batch).unwrap();
                    let expected = &case["losses"][format!("{name}/{key}")];
                    let what = format!("case {i}, {name}/{key}, {dtype:?}");
                    let total = scale * scalar(&output.loss);
                    assert_close(&what, &[total], &numbers(&expected["loss"]), tolerance);
                    let got: Vec<f64> =
                        gradient(&output.loss, &student).iter().map(|g| scale * g).collect();
                    let want = numbers(&expected["grad"]);
                    assert_close(&format!("{what} gradient"), &got, &want, tolerance);
                    if key == "token_sum" {
                        continue;
                    }
                    for (part, got) in
                        [("per_token", &output.per_token), ("clipped", &output.clipped)]
                    {
                        let want = trained(numbers(&expected[part]), &batch);
                        let got = trained(host(got), &batch);
                        assert_close(&format!("{what} {part}"), &got, &want, tolerance);
                    }
                }
            }
        }
    }
}

#[test]
fn golden_cases_enter_every_branch() {
    let cases = cases();
    let flags = |key: &str| -> Vec<f64> {
        cases.iter().flat_map(|case| numbers(&case["losses"][key]["clipped"])).collect()
    };
    for key in ["ppo_clip/sample_mean", "cispo/sample_mean", "gspo/sample_mean"] {
        let flags = flags(key);
        assert!(flags.contains(&0.0) && flags.contains(&1.0), "{key}");
    }
    let per_token = |key: &str| -> Vec<f64> {
        cases.iter().flat_map(|case| numbers(&case["losses"][key]["per_token"])).collect()
    };
    assert_ne!(per_token("ppo_clip/sample_mean"), per_token("ppo_dual_clip/sample_mean"));
}

#[test]
fn importance_weighted_kl_to_the_reference() {
    let estimators = [
        ("kl_is_k1", KlEstimator::K1),
        ("kl_is_k2", KlEstimator::K2),
        ("kl_is_k3", KlEstimator::K3),
        ("kl_is_low_var_kl", KlEstimator::LowVar),
    ];
    for case in &cases() {
        let batch = batch(case).build(&Aggregation::TokenSum).unwrap();
        let student = numbers(&case["current_log_probs"]);
        let student = var(&student, student.len(), DType::F32);
        let inputs = PolicyInputs::new(&student, &batch).unwrap();
        for (key, estimator) in estimators {
            let term = ReferenceKl::importance_weighted(1.0, estimator).unwrap();
            let got = trained(host(&term.per_token(&inputs).unwrap()), &batch);
            assert_close(key, &got, &trained(numbers(&case[key]), &batch), tolerance);
        }
    }
}
