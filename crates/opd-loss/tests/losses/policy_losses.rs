//! Policy losses under every aggregation, against float64 vectors with wholly masked sequences,
//! masked tails and fixed horizons.

use std::collections::BTreeSet;

use candle_core::DType;
use opd_loss::{
    Aggregation, Cispo, Clip, Gspo, ImportanceSampling, PolicyLoss, PpoClip, Reinforce,
};
use serde_json::Value;

use super::{Batch, assert_close, golden, gradient, host, scalar, var};

const DATA: &str = include_str!("../data/policy_losses.json");

fn batch(rows: &[Value]) -> Batch {
    let stream = |name: &str| -> Vec<Vec<f32>> {
        let row = |row: &Value| golden::numbers(&row[name]).into_iter().map(|x| x as f32).collect();
        rows.iter().map(row).collect()
    };
    let mask = |row: &Value| {
        row["mask"].as_array().unwrap().iter().map(|m| m.as_bool().unwrap()).collect()
    };
    Batch::new(stream("old"), stream("advantages"), rows.iter().map(mask).collect())
}

fn aggregation(expected: &Value) -> Aggregation {
    match expected["aggregation"].as_str().unwrap() {
        "token_mean" => Aggregation::TokenMean,
        "token_sum" => Aggregation::TokenSum,
        "sequence_mean_token_mean" => Aggregation::SequenceMeanTokenMean,
        "sequence_mean_token_sum" => Aggregation::SequenceMeanTokenSum {
            horizon: expected["horizon"].as_u64().unwrap() as usize,
        },
        other => panic!("no aggregation {other}"),
    }
}

#[test]
fn of_every_aggregation() {
    let data: Value = serde_json::from_str(DATA).unwrap();
    let setting = |name: &str| data[name].as_f64().unwrap() as f32;
    let clip = Clip { below: setting("below"), above: setting("above") };
    let loss = |name: &str| -> Box<dyn PolicyLoss> {
        match name {
            "importance_sampling" => Box::new(ImportanceSampling),
            "reinforce" => Box::new(Reinforce),
            "ppo_clip" => Box::new(PpoClip { clip, dual: None }),
            "ppo_dual_clip" => Box::new(PpoClip { clip, dual: Some(setting("dual")) }),
            "gspo" => Box::new(Gspo { clip }),
            "cispo" => Box::new(Cispo { clip }),
            other => panic!("no loss {other}"),
        }
    };
    let mut checked = BTreeSet::new();
    for (i, case) in data["cases"].as_array().unwrap().iter().enumerate() {
        let rows = case["rows"].as_array().unwrap();
        let batch = batch(rows);
        let student: Vec<f64> =
            rows.iter().flat_map(|row| golden::numbers(&row["student"])).collect();
        for expected in case["expected"].as_array().unwrap() {
            let name = expected["loss"].as_str().unwrap();
            let aggregation = aggregation(expected);
            let batch = batch.build(&aggregation).unwrap();
            // A weight is an f32 number.
            for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 2e-6)] {
                let student = var(&student, student.len(), dtype);
                let output = loss(name).loss(&student, &batch).unwrap();
                let what = format!("case {i}, {name}, {aggregation:?}, {dtype:?}");
                let want = golden::numbers(&expected["value"]);
                let of = |x: f64| tolerance * x.abs().max(1.0);
                assert_close(&what, &[scalar(&output.loss)], &want, of);
                let want = golden::numbers(&expected["grad"]);
                assert_close(&what, &gradient(&output.loss, &student), &want, of);
            }
            checked.insert(format!("{name}, {aggregation:?}"));
        }
    }
    assert_eq!(checked.len(), 6 * 5);
}

/// The weights of CISPO, and the means of GSPO, lie on every side of their bounds.
#[test]
fn the_vectors_enter_every_branch() {
    let data: Value = serde_json::from_str(DATA).unwrap();
    let setting = |name: &str| data[name].as_f64().unwrap() as f32;
    let clip = Clip { below: setting("below"), above: setting("above") };
    let losses: [Box<dyn PolicyLoss>; 2] = [Box::new(Cispo { clip }), Box::new(Gspo { clip })];
    for loss in losses {
        let mut sides = BTreeSet::new();
        for case in data["cases"].as_array().unwrap() {
            let rows = case["rows"].as_array().unwrap();
            let batch = batch(rows).build(&Aggregation::TokenSum).unwrap();
            let student: Vec<f64> =
                rows.iter().flat_map(|row| golden::numbers(&row["student"])).collect();
            let output = loss.loss(&var(&student, student.len(), DType::F64), &batch).unwrap();
            let pairs = host(&output.ratio).into_iter().zip(batch.advantages().values().to_vec());
            let side = |ratio: f64| {
                let (low, high) = (1.0 - f64::from(clip.below), 1.0 + f64::from(clip.above));
                i8::from(ratio > high) - i8::from(ratio < low)
            };
            let pairs = pairs.map(|(ratio, advantage)| (side(ratio), advantage > 0.0));
            let trained = pairs.zip(batch.mask().values()).filter(|(_, trained)| **trained);
            sides.extend(trained.map(|(pair, _)| pair));
        }
        assert_eq!(sides.len(), 6, "{}: {sides:?}", loss.name());
    }
}
