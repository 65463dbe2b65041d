//! Central differences in f64 of policy losses, on each side of each branch.

use std::collections::BTreeSet;

use candle_core::DType;
use opd_batch::KlEstimator;
use opd_loss::{
    Aggregation, Cispo, Clip, Gspo, ImportanceSampling, LossBatch, PolicyInputs, PolicyLoss,
    PolicyLossOutput, PpoClip, ReferenceKl, Reinforce,
};

use super::{Batch, assert_differences, gradient, host, scalar, var};

const CLIP: Clip = Clip { below: 0.2, above: 0.28 };
const DUAL: f32 = 3.0;
const OLD: f32 = -3.5;

/// Three sequences whose ratios, and so their means, are under, within and over [`CLIP`]; each
/// ratio meets an advantage of both signs and of 0, and the last token of each is masked.
fn branches() -> (Vec<f64>, LossBatch) {
    let ratios = [[0.3f64, 0.5, 0.6], [0.9, 0.95, 1.1], [1.6, 2.0, 12.0]];
    let (mut student, mut advantages, mut references) = (Vec::new(), Vec::new(), Vec::new());
    for row in ratios {
        let pairs = row.into_iter().flat_map(|ratio| [1.5f32, -1.5, 0.0].map(|a| (ratio, a)));
        let pairs: Vec<(f64, f32)> = pairs.chain([(2.0, 1.0)]).collect();
        student.extend(pairs.iter().map(|(ratio, _)| f64::from(OLD) + ratio.ln()));
        advantages.push(pairs.iter().map(|(_, advantage)| *advantage).collect::<Vec<_>>());
        let near_and_far = [-2.0f32, -3.0, -20.0, -0.5].into_iter().cycle();
        references.push(near_and_far.take(pairs.len()).collect::<Vec<_>>());
    }
    let mask: Vec<Vec<bool>> =
        advantages.iter().map(|row| (0..row.len()).map(|t| t + 1 < row.len()).collect()).collect();
    let old = advantages.iter().map(|row| vec![OLD; row.len()]).collect();
    let mut batch = Batch::new(old, advantages, mask);
    batch.reference = Some(references);
    (student, batch.build(&Aggregation::TokenMean).unwrap())
}

/// On which side of the bounds the ratios of trained tokens lie, with their advantages' signs.
fn entered(output: &PolicyLossOutput, batch: &LossBatch) -> BTreeSet<(i8, i8)> {
    let (low, high) = (1.0 - f64::from(CLIP.below), 1.0 + f64::from(CLIP.above));
    let side = |ratio: f64| i8::from(ratio > high) - i8::from(ratio < low);
    let sign = |advantage: f32| i8::from(advantage > 0.0) - i8::from(advantage < 0.0);
    let tokens = host(&output.ratio).into_iter().zip(batch.advantages().values());
    let trained = tokens.zip(batch.mask().values()).filter(|(_, trained)| **trained);
    trained.map(|((ratio, advantage), _)| (side(ratio), sign(*advantage))).collect()
}

fn every_side() -> BTreeSet<(i8, i8)> {
    [-1, 0, 1].into_iter().flat_map(|side| [-1, 0, 1].map(|sign| (side, sign))).collect()
}

#[test]
fn of_losses_on_each_side_of_each_branch() {
    let (student, batch) = branches();
    let losses: [Box<dyn PolicyLoss>; 5] = [
        Box::new(ImportanceSampling),
        Box::new(Reinforce),
        Box::new(PpoClip { clip: CLIP, dual: None }),
        Box::new(PpoClip { clip: CLIP, dual: Some(DUAL) }),
        Box::new(Gspo { clip: CLIP }),
    ];
    for loss in losses {
        let what = format!("{loss:?}");
        let output = loss.loss(&var(&student, student.len(), DType::F64), &batch).unwrap();
        assert_eq!(entered(&output, &batch), every_side(), "{what}");
        assert_differences(&what, &student, student.len(), |x| loss.loss(x, &batch).unwrap().loss);
    }
}

#[test]
fn of_the_dual_clip_on_both_sides_of_its_bound() {
    let (student, batch) = branches();
    let loss = PpoClip { clip: CLIP, dual: Some(DUAL) };
    let x = var(&student, student.len(), DType::F64);
    let output = loss.loss(&x, &batch).unwrap();
    let gradient = gradient(&output.loss, &x);
    let bad = (0..student.len()).filter(|&t| batch.advantages().values()[t] < 0.0);
    let (held, free): (Vec<usize>, Vec<usize>) =
        bad.partition(|&t| student[t] - f64::from(OLD) > f64::from(DUAL).ln());
    assert!(!held.is_empty() && !free.is_empty());
    assert!(held.iter().all(|&t| gradient[t] == 0.0));
    let over = |t: &&usize| student[**t] - f64::from(OLD) > 1.28f64.ln();
    assert!(free.iter().filter(over).all(|&t| gradient[t] > 0.0));
}

/// CISPO stops the gradient through its weight, so differences of it mean nothing: its gradient
/// is that of the log-probs with the weights held.
#[test]
fn of_cispo_with_its_weight_held() {
    let (student, batch) = branches();
    for clip in [CLIP, Cispo::default().clip] {
        let (low, high) = (1.0 - f64::from(clip.below), 1.0 + f64::from(clip.above));
        let x = var(&student, student.len(), DType::F64);
        let output = Cispo { clip }.loss(&x, &batch).unwrap();
        assert_eq!(entered(&output, &batch), every_side());
        let got = gradient(&output.loss, &x);
        let flags = host(&output.clipped);
        for (i, got) in got.into_iter().enumerate() {
            let ratio = (student[i] - f64::from(OLD)).exp();
            let weight = ratio.max(low).min(high);
            let advantage = f64::from(batch.advantages().values()[i]);
            let want = -weight * advantage * f64::from(batch.weights().values()[i]);
            assert!((got - want).abs() < 1e-12, "{clip:?}, entry {i}: {got} vs {want}");
            if batch.mask().values()[i] {
                assert_eq!(flags[i] == 1.0, weight != ratio, "{clip:?}, entry {i}");
            }
        }
    }
}

#[test]
fn of_kl_to_the_reference() {
    let (student, batch) = branches();
    let all = [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::LowVar];
    let weighted =
        all.map(|estimator| (estimator, ReferenceKl::importance_weighted(1.0, estimator).unwrap()));
    let plain = [KlEstimator::K2, KlEstimator::K3, KlEstimator::LowVar];
    let plain = plain.map(|estimator| (estimator, ReferenceKl::new(1.0, estimator).unwrap()));
    for (estimator, term) in plain.into_iter().chain(weighted) {
        let what = format!("{term:?}");
        let of = |x: &candle_core::Var| {
            let inputs = PolicyInputs::new(x, &batch).unwrap();
            let per_token = term.per_token(&inputs).unwrap();
            (inputs.aggregate("kl", &per_token).unwrap(), host(&per_token))
        };
        let values = of(&var(&student, student.len(), DType::F64)).1;
        let reference = batch.reference_logprobs("test").unwrap().values();
        // Whether the student finds the token likelier than the reference, and the bound acts.
        let sides = (0..student.len()).filter(|&t| batch.mask().values()[t]);
        let sides: BTreeSet<(bool, bool)> =
            sides.map(|t| (student[t] > f64::from(reference[t]), values[t] == 10.0)).collect();
        let bounded = estimator == KlEstimator::LowVar;
        assert_eq!(sides.len(), if bounded { 4 } else { 2 }, "{what}: {sides:?}");
        assert_differences(&what, &student, student.len(), |x| of(x).0);
    }
}

#[test]
fn low_variance_kl_stops_at_its_bounds() {
    let far = |reference: f32| {
        let mut batch = Batch::new(vec![vec![-1.0]], vec![vec![1.0]], vec![vec![true]]);
        batch.reference = Some(vec![vec![reference]]);
        batch.build(&Aggregation::TokenSum).unwrap()
    };
    let student = var(&[-900.0], 1, DType::F64);
    let batch = far(-1.0);
    let inputs = PolicyInputs::new(&student, &batch).unwrap();
    let term = ReferenceKl::new(1.0, KlEstimator::LowVar).unwrap();
    let kl = term.per_token(&inputs).unwrap();
    assert_eq!(scalar(&kl), 10.0);
    assert_eq!(gradient(&kl, &student), [0.0]);
}
