//! What is refused, and that the message says why.

use candle_core::DType;
use opd_batch::{KlEstimator, Ragged};
use opd_loss::{
    Aggregation, Clip, Divergence, DivergenceObjective, Error, LossBatch, Objective,
    ObjectiveInputs, PolicyInputs, PolicyLoss, PolicyObjective, PpoClip, ReferenceKl,
};

use super::{Batch, var};

fn batch() -> LossBatch {
    let mask = vec![vec![true, true], vec![true, false, true]];
    let old = vec![vec![-1.0, -1.0], vec![-1.0, -1.0, -1.0]];
    let batch = Batch::new(old.clone(), old, mask);
    batch.build(&Aggregation::default()).unwrap()
}

#[test]
fn a_batch_with_nothing_to_train_on() {
    let batch = Batch::new(vec![vec![-1.0; 3]], vec![vec![1.0; 3]], vec![vec![false; 3]]);
    let error = batch.build(&Aggregation::default()).unwrap_err();
    assert!(matches!(error, Error::AllMasked { tokens: 3 }), "{error}");
}

#[test]
fn detached_log_probs() {
    let detached = var(&[-1.0; 5], 5, DType::F32).as_detached_tensor();
    let error = PpoClip::default().loss(&detached, &batch()).unwrap_err();
    assert!(error.to_string().contains("student_logprobs carries no graph"), "{error}");
    let hidden = var(&[0.0; 10], (5, 2), DType::F32).as_detached_tensor();
    let head = var(&[0.0; 6], (3, 2), DType::F32).as_detached_tensor();
    let inputs = ObjectiveInputs {
        hidden: &hidden,
        head: (&head).into(),
        temperature: 1.0,
        batch: &batch(),
        teacher: None,
    };
    let error = PolicyObjective::new(PpoClip::default()).compute(&inputs).unwrap_err();
    assert!(error.to_string().contains("hidden carries no graph"), "{error}");
}

#[test]
fn the_row_and_token_of_a_bad_log_prob_are_named() {
    let student = var(&[-1.0, -1.0, -1.0, -1.0, f64::NAN], 5, DType::F32);
    let error = PpoClip::default().loss(&student, &batch()).unwrap_err().to_string();
    assert_eq!(error, "student_logprobs: NaN is not finite at row 1, token 2");
    let part = batch().select(&[1]).unwrap();
    let student = var(&[f64::NEG_INFINITY, -1.0, -1.0], 3, DType::F32);
    let error = PpoClip::default().loss(&student, &part).unwrap_err().to_string();
    assert_eq!(error, "student_logprobs: -inf is not finite at row 1, token 0");
}

#[test]
fn the_row_and_token_of_a_bad_loss_are_named() {
    let student = var(&[-1.0, 900.0, -1.0, -1.0, -1.0], 5, DType::F64);
    let error = PpoClip::default().loss(&student, &batch()).unwrap_err().to_string();
    assert_eq!(error, "ppo_clip: inf is not finite at row 0, token 1");
}

#[test]
fn a_bad_advantage_is_named() {
    let old = vec![vec![-1.0; 2]];
    let batch = Batch::new(old, vec![vec![1.0, f32::NAN]], vec![vec![true; 2]]);
    let error = batch.build(&Aggregation::default()).unwrap_err().to_string();
    assert_eq!(error, "advantages: NaN is not finite at row 0, token 1");
}

#[test]
fn log_probs_of_another_shape() {
    let error = PpoClip::default().loss(&var(&[-1.0; 4], 4, DType::F32), &batch()).unwrap_err();
    assert!(error.to_string().contains("[5], one per token"), "{error}");
}

#[test]
fn k1_as_a_loss() {
    let error = ReferenceKl::new(0.1, KlEstimator::K1).unwrap_err().to_string();
    assert!(error.contains("gradient") && error.contains("use k2"), "{error}");
    assert!(ReferenceKl::importance_weighted(0.1, KlEstimator::K1).is_ok());
    assert!(ReferenceKl::new(-0.1, KlEstimator::K2).is_err());
    assert!(ReferenceKl::new(f32::NAN, KlEstimator::K2).is_err());
}

#[test]
fn a_reference_that_is_not_there() {
    let term = ReferenceKl::new(0.1, KlEstimator::K3).unwrap();
    let (student, batch) = (var(&[-1.0; 5], 5, DType::F32), batch());
    let inputs = PolicyInputs::new(&student, &batch).unwrap();
    let error = term.per_token(&inputs).unwrap_err().to_string();
    assert!(error.contains("ReferenceKl needs reference log-probs"), "{error}");
}

#[test]
fn a_teacher_that_is_not_there() {
    let (hidden, head) = (var(&[0.1; 10], (5, 2), DType::F32), var(&[0.1; 6], (3, 2), DType::F32));
    let batch = batch();
    let inputs = ObjectiveInputs {
        hidden: &hidden,
        head: (&head).into(),
        temperature: 1.0,
        batch: &batch,
        teacher: None,
    };
    let objective = DivergenceObjective::new(Divergence::ReverseKl).unwrap();
    let error = objective.compute(&inputs).unwrap_err().to_string();
    assert!(error.contains("reverse_kl") && error.contains("in process"), "{error}");
}

#[test]
fn settings_outside_their_range() {
    let student = var(&[-1.0; 5], 5, DType::F32);
    let bad = |clip, dual| PpoClip { clip, dual }.loss(&student, &batch()).unwrap_err();
    let fine = Clip { below: 0.2, above: 0.2 };
    assert!(bad(fine, Some(1.0)).to_string().contains("above 1"));
    assert!(bad(Clip { below: 1.5, ..fine }, None).to_string().contains("clip below"));
    assert!(bad(Clip { above: -0.1, ..fine }, None).to_string().contains("clip above"));
    assert!(PolicyObjective::new(PpoClip::default()).with_entropy(f64::NAN).is_err());
    assert!(DivergenceObjective::new(Divergence::Jsd { beta: 2.0 }).is_err());
    let horizon = Aggregation::SequenceMeanTokenSum { horizon: 0 };
    let rows = Ragged::from_rows([vec![1]]);
    let error = LossBatch::supervised(rows.clone(), rows.map(|_| true), &horizon).unwrap_err();
    assert!(error.to_string().contains("horizon"), "{error}");
    assert!(batch().select(&[2]).is_err() && batch().select(&[]).is_err());
}
