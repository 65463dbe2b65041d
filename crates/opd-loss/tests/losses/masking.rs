//! What stands in a token that is not trained on reaches nothing.

use candle_core::DType;
use opd_loss::{
    Aggregation, Cispo, Clip, Gspo, ImportanceSampling, PolicyLoss, PpoClip, Reinforce,
};

use super::{Batch, gradient, scalar, var};

fn losses() -> [Box<dyn PolicyLoss>; 5] {
    [
        Box::new(ImportanceSampling),
        Box::new(Reinforce),
        Box::new(PpoClip { dual: Some(3.0), ..PpoClip::default() }),
        Box::new(Gspo { clip: Clip { below: 0.9, above: 4.0 } }),
        Box::new(Cispo::default()),
    ]
}

#[test]
fn garbage_in_a_masked_token_changes_nothing() {
    let mask = vec![vec![true, false, true], vec![false]];
    let old = vec![vec![-1.0, -2.0, -0.5], vec![-1.0]];
    let batch = |garbage: f32| {
        let advantages = vec![vec![1.0, garbage, -2.0], vec![garbage]];
        let batch = Batch::new(old.clone(), advantages, mask.clone());
        batch.build(&Aggregation::SequenceMeanTokenMean).unwrap()
    };
    for loss in losses() {
        let run = |garbage: f64, batch_garbage: f32| {
            let student = var(&[-1.05, garbage, -0.6, garbage], 4, DType::F32);
            let output = loss.loss(&student, &batch(batch_garbage)).unwrap();
            (scalar(&output.loss), gradient(&output.loss, &student))
        };
        let want = run(-2.0, 0.5);
        assert_eq!((want.1[1], want.1[3]), (0.0, 0.0));
        assert!(want.1[0] != 0.0);
        for garbage in [f64::NEG_INFINITY, f64::INFINITY, f64::NAN, 1e30] {
            assert_eq!(run(garbage, garbage as f32), want, "{loss:?} with {garbage}");
        }
    }
}

#[test]
fn a_row_without_a_trained_token_weighs_nothing() {
    let one = Batch::new(vec![vec![-1.0]], vec![vec![2.0]], vec![vec![true]]);
    let two = Batch::new(
        vec![vec![-1.0], vec![-1.0]],
        vec![vec![2.0], vec![5.0]],
        vec![vec![true], vec![false]],
    );
    for aggregation in [Aggregation::SequenceMeanTokenMean, Aggregation::TokenMean] {
        let loss = |batch: &Batch, student: &[f64]| {
            let student = var(student, student.len(), DType::F64);
            scalar(
                &PpoClip::default()
                    .loss(&student, &batch.build(&aggregation).unwrap())
                    .unwrap()
                    .loss,
            )
        };
        assert_eq!(loss(&one, &[-1.0]), -2.0);
        assert_eq!(loss(&two, &[-1.0, -3.0]), -2.0);
    }
}

#[test]
fn an_overflowing_ratio_passes_no_nan_where_the_loss_is_constant() {
    let batch = Batch::new(
        vec![vec![-2000.0, -2000.0, -1.0]],
        vec![vec![0.0, -1.0, 1.0]],
        vec![vec![true; 3]],
    );
    let batch = batch.build(&Aggregation::TokenSum).unwrap();
    let student = var(&[-1.0, -1.0, -1.0], 3, DType::F64);
    let loss = PpoClip { dual: Some(3.0), ..PpoClip::default() };
    let output = loss.loss(&student, &batch).unwrap();
    assert_eq!(scalar(&output.loss), 3.0 - 1.0);
    assert_eq!(gradient(&output.loss, &student), [0.0, 0.0, -1.0]);
}
