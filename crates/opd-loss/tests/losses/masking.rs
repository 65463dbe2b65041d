//! What stands in a token that is not trained on reaches nothing.

use candle_core::{DType, Tensor};
use opd_kernels::CrossVocabulary;
use opd_loss::{
    Aggregation, Cispo, Clip, CrossEntropy, CrossVocabularyObjective, Direction, Divergence,
    DivergenceObjective, Gspo, ImportanceSampling, MiniLlm, Objective, ObjectiveInputs, PolicyLoss,
    PolicyObjective, PpoClip, Reinforce, Support, Tail, TeacherStates, TopKObjective,
};

use super::{Batch, gradient, host, numbers, scalar, var};

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

fn objectives() -> Vec<Box<dyn Objective>> {
    let top_k = |support| TopKObjective::new(3, support, Tail::Bucket, Direction::Reverse).unwrap();
    let clip = Clip { below: 0.2, above: 0.2 };
    vec![
        Box::new(CrossEntropy),
        Box::new(PolicyObjective::new(PpoClip::default()).with_entropy(0.1).unwrap()),
        Box::new(DivergenceObjective::new(Divergence::ReverseKl).unwrap()),
        Box::new(DivergenceObjective::mixed(0.3).unwrap().with_entropy(0.1).unwrap()),
        Box::new(DivergenceObjective::total_variation()),
        Box::new(top_k(Support::Teacher)),
        Box::new(top_k(Support::Student)),
        Box::new(MiniLlm::new(1.0, clip).unwrap()),
        Box::new(CrossVocabularyObjective::new(CrossVocabulary::unmatched(7))),
    ]
}

/// Hidden states of tokens that are not trained, the student's and the teacher's, are not read.
#[test]
fn garbage_in_a_masked_hidden_state_changes_nothing() {
    let mask = vec![vec![true, false, true, true], vec![false, true]];
    let old = vec![vec![-1.0, -2.5, -0.3, -1.5], vec![-2.0, -1.2]];
    let advantages = vec![vec![1.0, -0.5, 2.0, 0.7], vec![-1.5, 0.25]];
    let mut batch = Batch::new(old, advantages, mask);
    batch.ids = vec![vec![0, 6, 3, 2], vec![5, 1]];
    let batch = batch.build(&Aggregation::TokenMean).unwrap();
    let head = var(&numbers(7 * 3, 2, 1.0), (7, 3), DType::F64);
    let teacher_head = var(&numbers(7 * 2, 4, 1.0), (7, 2), DType::F64);
    let states = |width: usize, seed: u64, garbage: f64| {
        let mut values = numbers(6 * width, seed, 1.0);
        values[width..2 * width].fill(garbage);
        values[4 * width..5 * width].fill(garbage);
        var(&values, (6, width), DType::F64)
    };
    for objective in objectives() {
        let run = |garbage: f64| {
            let (hidden, teacher) = (states(3, 1, garbage), states(2, 3, garbage));
            let inputs = ObjectiveInputs {
                hidden: &hidden,
                head: (&head).into(),
                temperature: 0.8,
                batch: &batch,
                teacher: Some(TeacherStates { hidden: &teacher, head: (&teacher_head).into() }),
            };
            let output = objective.compute(&inputs).unwrap();
            let gradients = [&hidden, &head].map(|var| gradient(&output.loss, var));
            let means: Vec<f64> = output.metrics.iter().map(|metric| metric.mean()).collect();
            let host = |of: &Tensor| host(of);
            (
                scalar(&output.loss),
                gradients,
                means,
                [host(&output.student_logprobs), host(&output.entropy)],
            )
        };
        let want = run(0.5);
        let [of_hidden, _] = &want.1;
        assert!(of_hidden[3..6].iter().chain(&of_hidden[12..15]).all(|g| *g == 0.0));
        assert!(of_hidden[0] != 0.0, "{}", objective.name());
        for garbage in [f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(run(garbage), want, "{} with {garbage}", objective.name());
        }
    }
}
