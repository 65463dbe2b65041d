//! The teacher's signal as advantages: what its expected gradient is of.

use opd_advantage::{AdvantageEstimator, ReverseKl, ZeroAdvantage};
use opd_loss::{ImportanceSampling, PolicyLoss};

use crate::world::{
    STUDENT, TEACHER, assert_differ, assert_same, batch, differences, expected, kl, logprobs,
    probabilities, rollouts, scored, slopes,
};

/// Expected gradient of on-policy distillation with the log-probs `old` and `teacher` of the
/// tokens, drawn from `drawn`.
pub(crate) fn signal(
    estimator: &dyn AdvantageEstimator,
    old: &[f64],
    teacher: &[f64],
    drawn: &[f64],
) -> Vec<f64> {
    let rollouts = rollouts(old);
    let scored = scored(&rollouts, teacher, old);
    let batch = batch(&scored, estimator);
    let slopes = slopes(old, |s| ImportanceSampling.loss(s, &batch).unwrap().loss);
    let p: Vec<f64> = old.iter().map(|logprob| logprob.exp()).collect();
    let logits: Vec<f64> = p.iter().map(|p| p.ln()).collect();
    expected(drawn, &slopes, &logits)
}

fn reverse() -> Vec<f64> {
    differences(&STUDENT, |student| kl(student, &TEACHER))
}

pub(crate) fn no_coefficient_no_gradient() {
    let (old, teacher) = (logprobs(&STUDENT, 1.0), logprobs(&TEACHER, 1.0));
    let p = probabilities(&STUDENT);
    let of = |coef| {
        let estimator = ZeroAdvantage.plus(ReverseKl { coef, discount: 0.0 });
        signal(&estimator, &old, &teacher, &p)
    };
    assert_eq!(of(0.0), [0.0; 5]);
    assert_same(&of(1.0), &reverse());
}

pub(crate) fn another_temperature_moves_a_student_that_agrees() {
    let t = 0.6;
    let sampled = logprobs(&TEACHER, t);
    let drawn: Vec<f64> = sampled.iter().map(|logprob| logprob.exp()).collect();
    let of = |teacher: &[f64]| signal(&ReverseKl::default(), &sampled, teacher, &drawn);
    assert_same(&of(&logprobs(&TEACHER, t)), &[0.0; 5]);
    assert_differ(&of(&logprobs(&TEACHER, 1.0)), &[0.0; 5]);
}

pub(crate) fn whitening_cancels_the_coefficient() {
    let old = [-2.0; 5];
    // Every token that was drawn is one that the teacher likes better than the student.
    let teacher = [-1.9, -1.5, -1.2, -0.8, -0.4];
    let rollouts = rollouts(&old);
    let scored = scored(&rollouts, &teacher, &old);
    let of = |coef| ReverseKl { coef, discount: 0.0 }.whitened().advantages(&scored).unwrap();
    for (small, large) in of(0.1).values().iter().zip(of(10.0).values()) {
        assert!((small - large).abs() < 1e-4, "{small} and {large}");
    }
    let plain = ReverseKl::default().advantages(&scored).unwrap();
    assert!(plain.values().iter().all(|a| *a > 0.0));
    assert_eq!(of(1.0).values().iter().filter(|a| **a < 0.0).count(), 3);
}

pub(crate) fn cut_samples_have_another_gradient() {
    let (old, teacher) = (logprobs(&STUDENT, 1.0), logprobs(&TEACHER, 1.0));
    let p = probabilities(&STUDENT);
    assert_same(&signal(&ReverseKl::default(), &old, &teacher, &p), &reverse());
    // The two likeliest ids alone are drawn.
    let kept: f64 = p[0] + p[2];
    let cut = [p[0] / kept, 0.0, p[2] / kept, 0.0, 0.0];
    assert_differ(&signal(&ReverseKl::default(), &old, &teacher, &cut), &reverse());
}

pub(crate) fn labels_are_not_samples() {
    let (old, teacher) = (logprobs(&STUDENT, 1.0), logprobs(&TEACHER, 1.0));
    let labels = probabilities(&TEACHER);
    let got = signal(&ReverseKl::default(), &old, &teacher, &labels);
    assert_differ(&got, &reverse());
    assert_differ(&got, &differences(&STUDENT, |student| kl(&TEACHER, student)));
}
