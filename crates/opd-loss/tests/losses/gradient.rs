//! Central differences in f64, on each side of each branch.

use candle_core::{DType, Tensor};
use opd_batch::KlEstimator;
use opd_loss::{
    Aggregation, Cispo, Clip, Gspo, ImportanceSampling, LossBatch, PolicyInputs, PolicyLoss,
    PpoClip, ReferenceKl, Reinforce,
};

use super::{Batch, gradient, scalar, var};

const STEP: f64 = 1e-6;

fn assert_gradient(what: &str, x: &[f64], f: impl Fn(&Tensor) -> Tensor) {
    let student = var(x, x.len(), DType::F64);
    let analytic = gradient(&f(&student), &student);
    let at = |i: usize, step: f64| {
        let mut x = x.to_vec();
        x[i] += step;
        scalar(&f(&var(&x, x.len(), DType::F64)))
    };
    for (i, analytic) in analytic.into_iter().enumerate() {
        let numeric = (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
        assert!((analytic - numeric).abs() < 1e-7, "{what}, entry {i}: {analytic} vs {numeric}");
    }
}

/// Ratios 0.3, 0.9, 1.1, 1.6 and 12 meet advantages of both signs and of 0, with bounds
/// 0.8 and 1.28, a dual clip at 3, and a weight bound of 5; the last token is masked.
fn branches() -> (Vec<f64>, LossBatch) {
    let ratios = [0.3f64, 0.9, 1.1, 1.6, 12.0];
    let signs = [1.5f32, -1.5, 0.0];
    let pairs = signs.map(|a| ratios.map(|ratio| (ratio, a)));
    let pairs: Vec<(f64, f32)> = pairs.into_iter().flatten().chain([(2.0, 1.0)]).collect();
    let old = -3.5f32;
    let student = pairs.iter().map(|(ratio, _)| f64::from(old) + ratio.ln()).collect();
    let advantages: Vec<f32> = pairs.iter().map(|(_, a)| *a).collect();
    let n = pairs.len();
    let mut mask = vec![true; n];
    mask[n - 1] = false;
    let cut = |row: &[f32]| vec![row[..7].to_vec(), row[7..].to_vec()];
    let mask = vec![mask[..7].to_vec(), mask[7..].to_vec()];
    let mut batch = Batch::new(cut(&vec![old; n]), cut(&advantages), mask);
    let reference: Vec<f32> = (0..n).map(|i| -2.0 - 0.3 * i as f32).collect();
    batch.reference = Some(cut(&reference));
    (student, batch.build(&Aggregation::TokenMean).unwrap())
}

#[test]
fn of_losses_on_each_side_of_each_branch() {
    let (student, batch) = branches();
    let clip = Clip { below: 0.2, above: 0.28 };
    let losses: [Box<dyn PolicyLoss>; 5] = [
        Box::new(ImportanceSampling),
        Box::new(Reinforce),
        Box::new(PpoClip { clip, dual: None }),
        Box::new(PpoClip { clip, dual: Some(3.0) }),
        Box::new(Gspo { clip: Clip { below: 0.9, above: 4.0 } }),
    ];
    for loss in losses {
        let what = format!("{loss:?}");
        assert_gradient(&what, &student, |x| loss.loss(x, &batch).unwrap().loss);
    }
}

#[test]
fn of_gspo_where_the_sequence_is_clipped() {
    let (student, batch) = branches();
    let clip = Clip { below: 3e-4, above: 4e-4 };
    let loss = Gspo { clip };
    let output = loss.loss(&var(&student, student.len(), DType::F64), &batch).unwrap();
    let flags = super::host(&output.clipped);
    assert!(flags.contains(&1.0) && flags.contains(&0.0));
    assert_gradient("gspo", &student, |x| loss.loss(x, &batch).unwrap().loss);
}

/// CISPO stops the gradient through its weight, so differences of it mean nothing: its gradient
/// is that of the log-probs with the weights held.
#[test]
fn of_cispo_with_its_weight_held() {
    let (student, batch) = branches();
    let x = var(&student, student.len(), DType::F64);
    let got = gradient(&Cispo::default().loss(&x, &batch).unwrap().loss, &x);
    for (i, got) in got.into_iter().enumerate() {
        let old = f64::from(batch.old_logprobs().values()[i]);
        let weight = (student[i] - old).exp().min(5.0);
        let advantage = f64::from(batch.advantages().values()[i]);
        let want = -weight * advantage * f64::from(batch.weights().values()[i]);
        assert!((got - want).abs() < 1e-12, "entry {i}: {got} vs {want}");
    }
}

#[test]
fn of_kl_to_the_reference() {
    let (student, batch) = branches();
    let all = [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::LowVar];
    let weighted = all.map(|estimator| ReferenceKl::importance_weighted(1.0, estimator).unwrap());
    let plain = [KlEstimator::K2, KlEstimator::K3, KlEstimator::LowVar];
    let plain = plain.map(|estimator| ReferenceKl::new(1.0, estimator).unwrap());
    for term in plain.into_iter().chain(weighted) {
        assert_gradient(&format!("{term:?}"), &student, |x| {
            let inputs = PolicyInputs::new(x, &batch).unwrap();
            inputs.aggregate("kl", &term.per_token(&inputs).unwrap()).unwrap()
        });
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
