//! Losses that have no gradient, or another one than their value says.

use opd_advantage::{ReverseKl, ZeroAdvantage};
use opd_batch::KlEstimator;
use opd_loss::{
    CrossEntropy, Direction, Divergence, DivergenceObjective, Error, ImportanceSampling, Objective,
    PolicyInputs, PolicyLoss, ReferenceKl, Reinforce, SamplerCorrection, SequenceMask, Support,
    Tail, TokenWeights, TopKObjective,
};

use crate::world::{
    START, STUDENT, TEACHER, assert_differ, assert_same, batch, differences, expected, kl,
    logprobs, objective, one_token, probabilities, rollouts, scored, single, slopes,
};

/// Expected gradient of a KL to the start policy as a loss on the student's own samples.
fn of_reference(term: Option<ReferenceKl>, start: &[f64]) -> Vec<f64> {
    let student = logprobs(&STUDENT, 1.0);
    let rollouts = rollouts(&student);
    let scored = scored(&rollouts, &student, &logprobs(start, 1.0));
    let batch = batch(&scored, &ZeroAdvantage);
    let slopes = slopes(&student, |student| {
        let inputs = PolicyInputs::new(student, &batch).unwrap();
        let reference = inputs.stream(batch.reference_logprobs("test").unwrap()).unwrap();
        let per_token = match term {
            Some(term) => term.per_token(&inputs).unwrap(),
            None => (inputs.student_logprobs() - reference).unwrap(),
        };
        inputs.aggregate("kl", &per_token).unwrap()
    });
    expected(&probabilities(&STUDENT), &slopes, &STUDENT)
}

fn reverse(start: &[f64]) -> Vec<f64> {
    differences(&STUDENT, |student| kl(student, start))
}

fn forward(start: &[f64]) -> Vec<f64> {
    differences(&STUDENT, |student| kl(start, student))
}

pub(crate) fn k1_has_no_gradient() {
    assert!(matches!(ReferenceKl::new(1.0, KlEstimator::K1), Err(Error::Refused { .. })));
    for start in [START, TEACHER] {
        assert_same(&of_reference(None, &start), &[0.0; 5]);
        let k2 = ReferenceKl::new(1.0, KlEstimator::K2).unwrap();
        assert_same(&of_reference(Some(k2), &start), &reverse(&start));
        let weighted = ReferenceKl::importance_weighted(1.0, KlEstimator::K1).unwrap();
        assert_same(&of_reference(Some(weighted), &start), &reverse(&start));
    }
}

pub(crate) fn k3_follows_the_forward_kl() {
    for kind in [KlEstimator::K3, KlEstimator::LowVar] {
        let got = of_reference(Some(ReferenceKl::new(1.0, kind).unwrap()), &START);
        assert_same(&got, &forward(&START));
        assert_differ(&got, &reverse(&START));
        let weighted = ReferenceKl::importance_weighted(1.0, kind).unwrap();
        assert_same(&of_reference(Some(weighted), &START), &reverse(&START));
    }
}

pub(crate) fn weighted_k2_is_no_kl() {
    let weighted = ReferenceKl::importance_weighted(1.0, KlEstimator::K2).unwrap();
    let got = of_reference(Some(weighted), &START);
    let half_square = |student: &[f64]| {
        let (p, r) = (logprobs(student, 1.0), logprobs(&START, 1.0));
        p.iter().zip(r).map(|(p, r)| p.exp() * (p - r).powi(2) / 2.0).sum()
    };
    assert_same(&got, &differences(&STUDENT, half_square));
    assert_differ(&got, &reverse(&START));
}

pub(crate) fn a_divergence_needs_a_teacher() {
    let jsd = DivergenceObjective::new(Divergence::Jsd { beta: 0.5 }).unwrap();
    let error = objective(&jsd, &STUDENT, None, &one_token(0.0, -1.0)).unwrap_err();
    assert!(matches!(error, Error::MissingTeacher { .. }), "{error}");
}

/// `KL(student || teacher)` over the teacher's `k` likeliest ids alone, which sum to 1.
fn of_renormalised(k: usize, student: &[f64]) -> f64 {
    let mut ids: Vec<usize> = (0..TEACHER.len()).collect();
    ids.sort_by(|&a, &b| TEACHER[b].total_cmp(&TEACHER[a]));
    let of = |logits: &[f64]| ids[..k].iter().map(|&id| logits[id]).collect::<Vec<_>>();
    kl(&of(student), &of(&TEACHER))
}

pub(crate) fn one_renormalised_id_says_nothing() {
    let new = |k| TopKObjective::new(k, Support::Teacher, Tail::Renormalised, Direction::Reverse);
    assert!(matches!(new(1), Err(Error::Refused { .. })));
    for student in [STUDENT, START] {
        // Of two ids the loss is what is written above, and moves the student.
        let of_two = new(2).unwrap();
        let (value, gradient) =
            objective(&of_two, &student, Some(&TEACHER), &one_token(0.0, -1.0)).unwrap();
        assert_same(&[value], &[of_renormalised(2, &student)]);
        assert_same(&gradient, &differences(&student, |logits| of_renormalised(2, logits)));
        assert_differ(&gradient, &[0.0; 5]);
        // Of one it is 0, whoever the student is, and moves nobody.
        assert_same(&[of_renormalised(1, &student)], &[0.0]);
        assert_same(&differences(&student, |logits| of_renormalised(1, logits)), &[0.0; 5]);
    }
}

/// Mass on the teacher's two likeliest ids after a small step against the gradient, less that
/// before, where the student already is the teacher.
fn moved(tail: Tail, direction: Direction) -> f64 {
    let top = TopKObjective::biased(2, Support::Teacher, tail, direction).unwrap();
    let (_, gradient) = objective(&top, &TEACHER, Some(&TEACHER), &one_token(0.0, -1.0)).unwrap();
    let stepped: Vec<f64> = TEACHER.iter().zip(gradient).map(|(z, g)| z - 0.1 * g).collect();
    let mass = |logits: &[f64]| probabilities(logits)[1] + probabilities(logits)[2];
    mass(&stepped) - mass(&TEACHER)
}

pub(crate) fn truncation_moves_mass_where_both_agree() {
    for direction in [Direction::Forward, Direction::Reverse] {
        let new = TopKObjective::new(2, Support::Teacher, Tail::Truncated, direction);
        assert!(matches!(new, Err(Error::Refused { .. })));
        assert!(moved(Tail::Bucket, direction).abs() < 1e-9);
    }
    assert!(moved(Tail::Truncated, Direction::Reverse) < -1e-3, "off the support");
    assert!(moved(Tail::Truncated, Direction::Forward) > 1e-3, "onto the support");
}

/// Expected gradient of a policy loss at `STUDENT` on samples that `TEACHER` drew as old policy,
/// with advantages towards `START`.
fn of_old_samples(loss: &dyn PolicyLoss) -> Vec<f64> {
    let old = logprobs(&TEACHER, 1.0);
    let rollouts = rollouts(&old);
    let scored = scored(&rollouts, &logprobs(&START, 1.0), &old);
    let batch = batch(&scored, &ReverseKl::default());
    let slopes = slopes(&logprobs(&STUDENT, 1.0), |s| loss.loss(s, &batch).unwrap().loss);
    expected(&probabilities(&TEACHER), &slopes, &STUDENT)
}

pub(crate) fn reinforce_is_biased_once_the_policy_has_moved() {
    let advantages: Vec<f64> =
        logprobs(&START, 1.0).iter().zip(logprobs(&TEACHER, 1.0)).map(|(b, o)| b - o).collect();
    let gain = |student: &[f64]| {
        let p = probabilities(student);
        -p.iter().zip(&advantages).map(|(p, a)| p * a).sum::<f64>()
    };
    let truth = differences(&STUDENT, gain);
    assert_same(&of_old_samples(&ImportanceSampling), &truth);
    assert_differ(&of_old_samples(&Reinforce), &truth);
}

pub(crate) fn a_sampler_that_is_its_own_judge_weighs_1() {
    let (sampler, old) = (logprobs(&TEACHER, 1.0), logprobs(&STUDENT, 1.0));
    let rollouts = rollouts(&sampler);
    let own = opd_batch::ScoredBatch::from_sampler(&rollouts);
    let weights = SamplerCorrection::tis().of(&batch(&own, &ZeroAdvantage)).unwrap();
    assert_eq!(weights.values(), [1.0; 5]);
    let recomputed = opd_batch::ScoredBatch::new(&rollouts, single(&old)).unwrap();
    let weights = SamplerCorrection::tis().of(&batch(&recomputed, &ZeroAdvantage)).unwrap();
    assert!(weights.values().iter().all(|weight| (weight - 1.0).abs() > 0.1), "{weights:?}");
}

pub(crate) fn a_policy_that_has_not_moved_masks_nothing() {
    let old = logprobs(&STUDENT, 1.0);
    let rollouts = rollouts(&old);
    // The teacher dislikes every token that was drawn.
    let teacher: Vec<f64> = old.iter().map(|old| old - 1.0).collect();
    let scored = scored(&rollouts, &teacher, &old);
    let batch = batch(&scored, &ReverseKl::default());
    let kept = |student: &[f64]| {
        let student = candle_core::Tensor::from_slice(student, 5, &candle_core::Device::Cpu);
        let student = candle_core::Var::from_tensor(&student.unwrap()).unwrap();
        let inputs = PolicyInputs::new(&student, &batch).unwrap();
        let weights = SequenceMask::default().weights(&inputs).unwrap();
        weights.sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let as_old: Vec<f64> =
        batch.old_logprobs().values().iter().map(|&old| f64::from(old)).collect();
    assert_eq!(kept(&as_old), 5.0);
    let moved: Vec<f64> = as_old.iter().map(|old| old - 0.1).collect();
    assert_eq!(kept(&moved), 0.0);
}

pub(crate) fn cross_entropy_of_own_samples_has_no_gradient() {
    let p = probabilities(&STUDENT);
    let batches: Vec<Vec<f64>> = (0..5)
        .map(|id| {
            let targets = opd_batch::Ragged::from_rows([vec![id]]);
            let mask = opd_batch::Ragged::from_rows([vec![true]]);
            let sum = opd_loss::Aggregation::TokenSum;
            let batch = opd_loss::LossBatch::supervised(targets, mask, &sum).unwrap();
            objective(&CrossEntropy, &STUDENT, None, &batch).unwrap().1
        })
        .collect();
    let mean = |weights: &[f64]| -> Vec<f64> {
        (0..5).map(|v| (0..5).map(|y| weights[y] * batches[y][v]).sum()).collect()
    };
    assert_same(&mean(&p), &[0.0; 5]);
    // On labels it is the gradient of the forward KL to whoever wrote them.
    assert_same(&mean(&probabilities(&TEACHER)), &forward(&TEACHER));
}

pub(crate) fn a_divergence_reads_no_advantages() {
    let objectives: [Box<dyn Objective>; 2] = [
        Box::new(DivergenceObjective::new(Divergence::ReverseKl).unwrap()),
        Box::new(DivergenceObjective::total_variation()),
    ];
    for of in objectives {
        let with = |advantage| {
            objective(&of, &STUDENT, Some(&TEACHER), &one_token(advantage, -1.0)).unwrap()
        };
        assert_eq!(with(0.0), with(1000.0));
    }
}

pub(crate) fn a_divergence_has_no_pull_to_the_start() {
    let reverse = DivergenceObjective::new(Divergence::ReverseKl).unwrap();
    let with =
        |start| objective(&reverse, &STUDENT, Some(&TEACHER), &one_token(0.0, start)).unwrap();
    assert_eq!(with(-1.0), with(-9.0));
}
