//! The signal of a teacher that scored spans of tokens, worked out by hand.
#![allow(clippy::unwrap_used)]

use opd_advantage::{AdvantageEstimator, ExtrapolatedKl, FutureKl, ReverseKl};
use opd_batch::{
    Ragged, Rollout, RolloutBatch, ScoredBatch, SpanToken,
    SpanToken::{End, Inside, Unaligned},
    TeacherScores,
};

/// One response of seven tokens: spans of two, one, three, and a token without counterpart.
const SPANS: [SpanToken; 7] = [Inside, End, End, Inside, Inside, End, Unaligned];
const OLD: [f32; 7] = [-0.5, -0.25, -1.0, -0.125, -0.5, -0.25, -3.0];
const REFERENCE: [f32; 7] = [-1.0, -1.0, -2.0, -0.5, -0.5, -1.0, -1.0];
const TEACHER: [f32; 3] = [-1.0, -0.25, -2.0];

fn rollouts() -> RolloutBatch {
    let rollout = Rollout {
        prompt: vec![1],
        response: vec![2; 7],
        sampler_logprobs: OLD.to_vec(),
        ..Rollout::default()
    };
    RolloutBatch::from_rollouts(vec![rollout]).unwrap()
}

fn scored<'a>(rollouts: &'a RolloutBatch, spans: &[SpanToken]) -> ScoredBatch<'a> {
    let [a, b, c] = TEACHER.map(Some);
    let scores = TeacherScores {
        logprobs: Ragged::from_rows([vec![a, a, b, c, c, c, None]]),
        top: None,
        spans: Some(Ragged::from_rows([spans.to_vec()])),
    };
    let scored = ScoredBatch::from_sampler(rollouts).with_teacher(scores).unwrap();
    scored.with_reference(Ragged::from_rows([REFERENCE.to_vec()])).unwrap()
}

fn advantages(estimator: impl AdvantageEstimator) -> Vec<f32> {
    let rollouts = rollouts();
    estimator.advantages(&scored(&rollouts, &SPANS)).unwrap().values().to_vec()
}

/// Teacher less student of the three spans: -1 + 0.75, -0.25 + 1, -2 + 0.875.
const GAPS: [f32; 3] = [-0.25, 0.75, -1.125];

fn each_token([a, b, c]: [f32; 3]) -> [f32; 7] {
    [a, a, b, c, c, c, 0.0]
}

#[test]
fn each_token_has_the_gap_of_its_span() {
    assert_eq!(advantages(ReverseKl::default()), each_token(GAPS));
    let half = ReverseKl { coef: 0.5, ..ReverseKl::default() };
    assert_eq!(advantages(half), each_token(GAPS.map(|gap| 0.5 * gap)));
}

#[test]
fn discounts_count_spans() {
    let [a, b, c] = GAPS;
    let discounted = ReverseKl { discount: 0.5, ..ReverseKl::default() };
    let b = b + 0.5 * c;
    assert_eq!(advantages(discounted), each_token([a + 0.5 * b, b, c]));
}

#[test]
fn the_reference_is_summed_over_spans_too() {
    // Teacher less reference of the spans: -1 + 2, -0.25 + 2, -2 + 2.
    let beyond = [1.0, 1.75, 0.0];
    let extrapolated = ExtrapolatedKl { lambda: 1.5, ..ExtrapolatedKl::default() };
    let expected = [0, 1, 2].map(|i| GAPS[i] + 0.5 * beyond[i]);
    assert_eq!(advantages(extrapolated), each_token(expected));
}

#[test]
fn what_follows_a_span_is_counted_once() {
    let [_, b, c] = GAPS;
    assert_eq!(advantages(FutureKl::default()), each_token([(b + c) / 2.0, c, 0.0]));
}

#[test]
fn ratios_are_of_the_spans_before() {
    let [a, b, c] = GAPS;
    let powered = |power: f32| advantages(ReverseKl::default().prefix_ratio(power));
    // Before the third span the teacher is likelier than the student: -0.25 + 0.75.
    let weight = |log_ratio: f64| log_ratio.exp() as f32;
    assert_eq!(powered(1.0), each_token([a, weight(-0.25) * b, c]));
    assert_eq!(powered(2.0), each_token([a, weight(-0.5) * b, c]));
}

#[test]
fn spans_of_one_token_are_tokens() {
    let rollouts = rollouts();
    let logprobs = Ragged::from_rows([OLD.map(|x| Some(2.0 * x)).to_vec()]);
    let tokens = TeacherScores { logprobs, top: None, spans: None };
    let spans = TeacherScores { spans: Some(Ragged::from_rows([vec![End; 7]])), ..tokens.clone() };
    let estimator = ReverseKl { discount: 0.9, ..ReverseKl::default() };
    let [tokens, spans] = [tokens, spans].map(|scores| {
        let scored = ScoredBatch::from_sampler(&rollouts).with_teacher(scores).unwrap();
        estimator.advantages(&scored).unwrap()
    });
    assert_eq!(tokens, spans);
}
