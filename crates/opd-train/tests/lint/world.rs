//! One next token over five ids: student, teacher and start policy, and exact expectations.

use candle_core::{DType, Device, Tensor, Var};
use opd_advantage::AdvantageEstimator;
use opd_batch::{Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};
use opd_loss::{Aggregation, LossBatch, Objective, ObjectiveInputs, TeacherStates};

pub(crate) const STUDENT: [f64; 5] = [0.9, -0.4, 0.3, -1.1, 0.2];
pub(crate) const TEACHER: [f64; 5] = [-0.2, 1.0, 0.5, 0.1, -1.5];
pub(crate) const START: [f64; 5] = [0.4, 0.4, -0.9, 1.2, 0.0];

/// `log softmax(logits / temperature)`.
pub(crate) fn logprobs(logits: &[f64], temperature: f64) -> Vec<f64> {
    let lse = logits.iter().map(|z| (z / temperature).exp()).sum::<f64>().ln();
    logits.iter().map(|z| z / temperature - lse).collect()
}

pub(crate) fn probabilities(logits: &[f64]) -> Vec<f64> {
    logprobs(logits, 1.0).into_iter().map(f64::exp).collect()
}

/// Gradient, with respect to the student's logits, of the expectation over tokens drawn from
/// `drawn` of a loss whose derivative by token `y`'s log-prob is `slopes[y]`.
pub(crate) fn expected(drawn: &[f64], slopes: &[f64], student: &[f64]) -> Vec<f64> {
    let p = probabilities(student);
    let total: f64 = drawn.iter().zip(slopes).map(|(weight, slope)| weight * slope).sum();
    (0..p.len()).map(|v| drawn[v] * slopes[v] - p[v] * total).collect()
}

/// Central differences of a function of logits.
pub(crate) fn differences(logits: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let at = |i: usize, step: f64| {
        let mut logits = logits.to_vec();
        logits[i] += step;
        f(&logits)
    };
    (0..logits.len()).map(|i| (at(i, 1e-5) - at(i, -1e-5)) / 2e-5).collect()
}

/// `KL(a || b)` of two lists of logits.
pub(crate) fn kl(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (logprobs(a, 1.0), logprobs(b, 1.0));
    a.iter().zip(&b).map(|(a, b)| a.exp() * (a - b)).sum()
}

pub(crate) fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

pub(crate) fn assert_same(got: &[f64], want: &[f64]) {
    assert!(largest_difference(got, want) < 1e-6, "{got:?}, expected {want:?}");
}

pub(crate) fn assert_differ(a: &[f64], b: &[f64]) {
    assert!(largest_difference(a, b) > 1e-2, "{a:?} and {b:?} are nearly the same");
}

pub(crate) fn single(values: &[f64]) -> Ragged<f32> {
    Ragged::from_rows(values.iter().map(|value| vec![*value as f32]))
}

/// One response per id, each of one token, drawn by a policy with these log-probs.
pub(crate) fn rollouts(sampler: &[f64]) -> RolloutBatch {
    let rollout = |(id, logprob): (usize, &f64)| Rollout {
        prompt: vec![0],
        response: vec![id as u32],
        sampler_logprobs: vec![*logprob as f32],
        ..Rollout::default()
    };
    RolloutBatch::from_rollouts(sampler.iter().enumerate().map(rollout).collect()).unwrap()
}

/// Every id once: the student's samples, the teacher's scores, the start policy's log-probs.
pub(crate) fn scored<'a>(
    rollouts: &'a RolloutBatch,
    teacher: &[f64],
    start: &[f64],
) -> ScoredBatch<'a> {
    let teacher = TeacherScores::complete(single(teacher)).unwrap();
    let scored = ScoredBatch::from_sampler(rollouts).with_teacher(teacher).unwrap();
    scored.with_reference(single(start)).unwrap()
}

/// A batch whose tokens weigh 1, with an estimator's advantages.
pub(crate) fn batch(scored: &ScoredBatch<'_>, estimator: &dyn AdvantageEstimator) -> LossBatch {
    let advantages = estimator.advantages(scored).unwrap();
    LossBatch::new(scored, advantages, &Aggregation::TokenSum).unwrap()
}

/// Derivative of a loss by each token's log-prob, at log-probs `at`.
pub(crate) fn slopes(at: &[f64], loss: impl Fn(&Tensor) -> Tensor) -> Vec<f64> {
    let student = Tensor::from_slice(at, at.len(), &Device::Cpu).unwrap();
    let student = Var::from_tensor(&student).unwrap();
    let store = loss(&student).backward().unwrap();
    store.get(&student).unwrap().to_vec1().unwrap()
}

/// Value and gradient with respect to the student's logits of an objective on one token.
pub(crate) fn objective(
    objective: &dyn Objective,
    student: &[f64],
    teacher: Option<&[f64]>,
    batch: &LossBatch,
) -> opd_loss::Result<(f64, Vec<f64>)> {
    let n = student.len();
    let row = |logits: &[f64]| Tensor::from_slice(logits, (1, n), &Device::Cpu).unwrap();
    let hidden = Var::from_tensor(&row(student)).unwrap();
    let identity = Tensor::eye(n, DType::F64, &Device::Cpu).unwrap();
    let teacher = teacher.map(row);
    let output = objective.compute(&ObjectiveInputs {
        hidden: &hidden,
        head: (&identity).into(),
        temperature: 1.0,
        batch,
        teacher: teacher.as_ref().map(|hidden| TeacherStates { hidden, head: (&identity).into() }),
    })?;
    let store = output.loss.backward().unwrap();
    let gradient = store.get(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    Ok((output.loss.to_scalar().unwrap(), gradient))
}

/// A batch of one response of one token.
pub(crate) fn one_token(advantage: f32, start: f64) -> LossBatch {
    let rollouts = rollouts(&[-1.0]);
    let scored = scored(&rollouts, &[-1.0], &[start]);
    LossBatch::new(&scored, Ragged::from_rows([vec![advantage]]), &Aggregation::TokenSum).unwrap()
}
