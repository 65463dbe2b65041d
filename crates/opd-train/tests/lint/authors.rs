//! Responses that the student did not write, or not alone.

use opd_advantage::{AdvantageEstimator, FutureKl, ReverseKl, ZeroAdvantage};
use opd_batch::{RolloutBatch, ScoredBatch, TeacherScores};
use opd_loss::{
    Aggregation, Clip, CrossEntropy, Divergence, DivergenceObjective, Grain, ImportanceSampling,
    LossBatch, MiniLlm, Outside, PolicyLoss, SamplerCorrection,
};
use opd_train::config::ResponseSource;

use crate::{
    steps::supervised,
    world::{
        STUDENT, TEACHER, assert_differ, assert_same, batch, differences, expected, kl, logprobs,
        objective, probabilities, rollouts, single, slopes,
    },
};

/// Samples of one distribution, with log-probs of the student as old ones.
fn off_policy<'a>(rollouts: &'a RolloutBatch, old: &[f64]) -> ScoredBatch<'a> {
    let teacher = TeacherScores::complete(single(&logprobs(&TEACHER, 1.0))).unwrap();
    ScoredBatch::new(rollouts, single(old)).unwrap().with_teacher(teacher).unwrap()
}

fn reverse() -> Vec<f64> {
    differences(&STUDENT, |student| kl(student, &TEACHER))
}

/// Weights that nothing bounds.
fn weights() -> SamplerCorrection {
    SamplerCorrection { grain: Grain::Token, outside: Outside::Truncate, low: 0.0, high: 1e6 }
}

/// Expected gradient of a policy loss on tokens drawn from `drawn` whose sampler said `sampler`.
fn of_policy(loss: &dyn PolicyLoss, sampler: &[f64], drawn: &[f64]) -> Vec<f64> {
    let student = logprobs(&STUDENT, 1.0);
    let rollouts = rollouts(sampler);
    let batch = batch(&off_policy(&rollouts, &student), &ReverseKl::default());
    let slopes = slopes(&student, |s| loss.loss(s, &batch).unwrap().loss);
    expected(drawn, &slopes, &STUDENT)
}

pub(crate) fn teachers_samples_need_weights() {
    let (sampler, drawn) = (logprobs(&TEACHER, 1.0), probabilities(&TEACHER));
    assert_differ(&of_policy(&ImportanceSampling, &sampler, &drawn), &reverse());
    assert_same(&of_policy(&ImportanceSampling.weighted(weights()), &sampler, &drawn), &reverse());
}

pub(crate) fn greedy_samples_have_no_weights() {
    let sampler = logprobs(&TEACHER, 1.0);
    // Id 1 is the teacher's likeliest.
    let greedy = [0.0, 1.0, 0.0, 0.0, 0.0];
    assert_differ(
        &of_policy(&ImportanceSampling.weighted(weights()), &sampler, &greedy),
        &reverse(),
    );
}

pub(crate) fn a_mixture_is_not_the_student() {
    let (p, q) = (probabilities(&STUDENT), probabilities(&TEACHER));
    let mixture: Vec<f64> = p.iter().zip(&q).map(|(p, q)| 0.4 * q + 0.6 * p).collect();
    let sampler: Vec<f64> = mixture.iter().map(|m| m.ln()).collect();
    let mini_llm = MiniLlm::new(1.0, Clip { below: 1.0, above: 1e6 }).unwrap();
    // The expected weight of the exact part is 1, and of the sampler's own log-probs each is.
    let of = |old: &[f64], id: usize| {
        let rollouts = rollouts(&sampler);
        let scored = off_policy(&rollouts, old);
        let whole = batch(&scored, &FutureKl::default());
        objective(&mini_llm, &STUDENT, Some(&TEACHER), &whole.select(&[id]).unwrap()).unwrap().0
    };
    let student = logprobs(&STUDENT, 1.0);
    let value = kl(&STUDENT, &TEACHER);
    let mean: f64 = (0..5).map(|id| mixture[id] * of(&student, id)).sum();
    assert!((mean - value).abs() < 1e-6, "{mean}, expected {value}");
    for id in 0..5 {
        let weight = (student[id] - sampler[id]).exp();
        assert!((weight - 1.0).abs() > 1e-3, "{weight}");
        assert!((of(&student, id) - weight * value).abs() < 1e-6);
        assert!((of(&sampler, id) - value).abs() < 1e-6, "no weight at all");
    }
    // And the signal of a policy loss compares the teacher with a mixture of itself.
    let rollouts = rollouts(&sampler);
    let signal = |old: &[f64]| {
        ReverseKl::default().advantages(&off_policy(&rollouts, old)).unwrap().into_values()
    };
    let (from_student, from_mixture) = (signal(&student), signal(&sampler));
    assert!(from_mixture.iter().zip(&from_student).all(|(m, s)| m.abs() < s.abs()));
}

pub(crate) fn labels_are_not_drawn() {
    let trained = |responses, alpha| {
        supervised(|config| {
            config.rollout.responses = responses;
            config.rollout.teacher_mixed_alpha = alpha;
        })
    };
    assert_eq!(trained(ResponseSource::Label, 0.2), trained(ResponseSource::Label, 0.0));
    assert_ne!(trained(ResponseSource::Student, 0.2), trained(ResponseSource::Student, 0.0));
}

pub(crate) fn repeats_change_nothing() {
    let gradient = |n: usize| {
        let targets = opd_batch::Ragged::from_rows(vec![vec![1]; n]);
        let mask = opd_batch::Ragged::from_rows(vec![vec![true]; n]);
        let batch = LossBatch::supervised(targets, mask, &Aggregation::TokenMean).unwrap();
        let rows: Vec<Vec<f64>> = (0..n)
            .map(|row| {
                let one = batch.select(&[row]).unwrap();
                objective(&CrossEntropy, &STUDENT, None, &one).unwrap().1
            })
            .collect();
        (0..5).map(|v| rows.iter().map(|row| row[v]).sum()).collect::<Vec<f64>>()
    };
    assert_same(&gradient(8), &gradient(1));
}

pub(crate) fn shares_are_read_where_responses_are_mixed() {
    let trained = |responses, student| {
        supervised(|config| {
            config.rollout.responses = responses;
            (config.rollout.mix.student, config.rollout.mix.label) = (student, 1.0 - student);
        })
    };
    for responses in [ResponseSource::Student, ResponseSource::Label, ResponseSource::Teacher] {
        assert_eq!(trained(responses, 0.9), trained(responses, 0.1));
    }
    assert_ne!(trained(ResponseSource::Mixed, 0.9), trained(ResponseSource::Mixed, 0.1));
}

pub(crate) fn a_divergence_reads_no_sampler() {
    let reverse = DivergenceObjective::new(Divergence::ReverseKl).unwrap();
    let with = |sampler: f64| {
        let rollouts = rollouts(&[sampler]);
        let scored = ScoredBatch::new(&rollouts, single(&[-1.0])).unwrap();
        let batch = batch(&scored, &ZeroAdvantage);
        let weight = weights().of(&batch).unwrap().into_values()[0];
        (weight, objective(&reverse, &STUDENT, Some(&TEACHER), &batch).unwrap())
    };
    let (near, far) = (with(-1.0), with(-4.0));
    assert!(far.0 > 10.0 * near.0, "{} and {}", near.0, far.0);
    assert_eq!(near.1, far.1);
}
