//! The generalised Jensen-Shannon divergence against TRL's.

use candle_core::{DType, Device, Tensor};
use opd_batch::Ragged;
use opd_loss::{
    Aggregation, Divergence, DivergenceObjective, LossBatch, Objective, ObjectiveInputs,
    TeacherStates,
};
use serde_json::Value;

use super::{assert_close, golden, gradient, scalar, var};

#[test]
fn jensen_shannon_is_that_of_gkd_trainer() {
    let data: Value = serde_json::from_str(include_str!("../data/trl.json")).unwrap();
    let cases = data["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for (i, case) in cases.iter().enumerate() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let rows = case["mask"].as_array().unwrap();
        let masks = rows.iter().map(|row| {
            row.as_array().unwrap().iter().map(|m| m.as_bool().unwrap()).collect::<Vec<_>>()
        });
        let mask = Ragged::from_rows(masks);
        let tokens = mask.rows().n_tokens();
        let batch = LossBatch::supervised(mask.map(|_| 0), mask, &Aggregation::TokenMean).unwrap();
        let student = golden::numbers(&case["student_logits"]);
        let teacher = golden::numbers(&case["teacher_logits"]);
        let vocab = student.len() / tokens;
        let beta = number("beta");
        let objective = DivergenceObjective::new(Divergence::Jsd { beta }).unwrap();
        let want = golden::numbers(&case["grad"]);
        let largest = want.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
        // Weights of tokens are f32 numbers.
        for (dtype, tolerance) in [(DType::F64, 1e-7), (DType::F32, 2e-5)] {
            let head = Tensor::eye(vocab, dtype, &Device::Cpu).unwrap();
            let student = var(&student, (tokens, vocab), dtype);
            let teacher = var(&teacher, (tokens, vocab), dtype).as_detached_tensor();
            let inputs = ObjectiveInputs {
                hidden: &student,
                head: (&head).into(),
                temperature: number("temperature"),
                batch: &batch,
                teacher: Some(TeacherStates { hidden: &teacher, head: (&head).into() }),
            };
            let loss = objective.compute(&inputs).unwrap().loss;
            let what = format!("case {i}, beta {beta}, {dtype:?}");
            assert_close(&what, &[scalar(&loss)], &[number("loss")], |x| tolerance * x.abs());
            assert_close(&what, &gradient(&loss, &student), &want, |_| tolerance * largest);
        }
    }
}
