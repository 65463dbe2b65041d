//! Two tokens over three ids, all nine responses enumerated: what the expected gradients of
//! MiniLLM and of its importance weights are, against central differences of the reverse KL of
//! whole responses.
#![allow(clippy::unwrap_used, missing_docs)]

use candle_core::{DType, Device, Tensor, Var};
use opd_advantage::{AdvantageEstimator, FutureKl, ReverseKl};
use opd_batch::{Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};
use opd_loss::{
    Aggregation, Clip, Grain, ImportanceSampling, LossBatch, MiniLlm, Objective, ObjectiveInputs,
    Outside, PolicyLoss, PolicyObjective, SamplerCorrection, TeacherStates,
};

const VOCAB: usize = 3;

/// Logits of the first token, then of the second after each first one.
type Logits = [f64; VOCAB * (1 + VOCAB)];

const STUDENT: Logits = [0.6, -0.3, 0.1, 0.2, 1.0, -0.7, -0.4, 0.5, 0.9, 1.1, 0.0, -0.2];
const TEACHER: Logits = [-0.5, 0.8, 0.4, 0.9, -0.6, 0.3, 0.7, -0.2, 0.0, -1.0, 0.6, 0.5];

const WIDE: Clip = Clip { below: 1.0, above: 1e6 };

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let lse = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
    logits.iter().map(|z| z - lse).collect()
}

/// Where the logits of token `t` of a response start.
fn block(response: &[u32], t: usize) -> usize {
    if t == 0 { 0 } else { VOCAB * (1 + response[0] as usize) }
}

fn logprob(logits: &Logits, response: &[u32], t: usize) -> f64 {
    let start = block(response, t);
    log_softmax(&logits[start..start + VOCAB])[response[t] as usize]
}

fn responses(length: usize) -> Vec<Vec<u32>> {
    let ids = 0..VOCAB as u32;
    match length {
        1 => ids.map(|a| vec![a]).collect(),
        _ => ids.clone().flat_map(|a| ids.clone().map(move |b| vec![a, b])).collect(),
    }
}

/// Log-prob of a token where the teacher has the share `alpha` in it.
fn mixture(alpha: f64, response: &[u32], t: usize) -> f64 {
    let of = |logits| logprob(logits, response, t).exp();
    (alpha * of(&TEACHER) + (1.0 - alpha) * of(&STUDENT)).ln()
}

/// Gradient of the reverse KL of whole responses, by central differences.
fn truth(length: usize) -> Vec<f64> {
    let kl = |student: &Logits| -> f64 {
        let total = |logits, y: &[u32]| (0..length).map(|t| logprob(logits, y, t)).sum::<f64>();
        let of = |y: &Vec<u32>| {
            let (p, q) = (total(student, y), total(&TEACHER, y));
            p.exp() * (p - q)
        };
        responses(length).iter().map(of).sum()
    };
    let difference = |i: usize| {
        let at = |step: f64| {
            let mut student = STUDENT;
            student[i] += step;
            kl(&student)
        };
        (at(1e-5) - at(-1e-5)) / 2e-5
    };
    (0..STUDENT.len()).map(difference).collect()
}

/// Expected gradient of an objective on responses drawn from the mixture, with respect to the
/// student's logits: the sum over all responses, each by its probability.
fn expected(
    objective: &dyn Objective,
    estimator: &dyn AdvantageEstimator,
    alpha: f64,
    length: usize,
) -> Vec<f64> {
    let responses = responses(length);
    let stream = |of: &dyn Fn(&[u32], usize) -> f64| -> Vec<Vec<f32>> {
        let row = |y: &Vec<u32>| (0..length).map(|t| of(y, t) as f32).collect();
        responses.iter().map(row).collect()
    };
    let sampler = stream(&|y, t| mixture(alpha, y, t));
    let rollouts = responses.iter().zip(sampler).map(|(response, sampler_logprobs)| Rollout {
        prompt: vec![0],
        response: response.clone(),
        sampler_logprobs,
        ..Rollout::default()
    });
    let rollouts = RolloutBatch::from_rollouts(rollouts.collect()).unwrap();
    let teacher = Ragged::from_rows(stream(&|y, t| logprob(&TEACHER, y, t)));
    let old = Ragged::from_rows(stream(&|y, t| logprob(&STUDENT, y, t)));
    let scored = ScoredBatch::new(&rollouts, old).unwrap();
    let scored = scored.with_teacher(TeacherScores::complete(teacher).unwrap()).unwrap();
    let advantages = estimator.advantages(&scored).unwrap();
    let batch = LossBatch::new(&scored, advantages, &Aggregation::TokenSum).unwrap();
    let hidden = |logits: &Logits| {
        let rows = responses.iter().flat_map(|y| (0..length).map(move |t| block(y, t)));
        let values: Vec<f64> =
            rows.flat_map(|start| logits[start..start + VOCAB].to_vec()).collect();
        Tensor::from_vec(values, (responses.len() * length, VOCAB), &Device::Cpu).unwrap()
    };
    let (student, teacher) = (Var::from_tensor(&hidden(&STUDENT)).unwrap(), hidden(&TEACHER));
    let identity = Tensor::eye(VOCAB, DType::F64, &Device::Cpu).unwrap();
    let output = objective.compute(&ObjectiveInputs {
        hidden: &student,
        head: (&identity).into(),
        temperature: 1.0,
        batch: &batch,
        teacher: Some(TeacherStates { hidden: &teacher, head: (&identity).into() }),
    });
    let store = output.unwrap().loss.backward().unwrap();
    let of_rows: Vec<Vec<f64>> = store.get(&student).unwrap().to_vec2().unwrap();
    let mut gradient = vec![0.0; STUDENT.len()];
    for (i, y) in responses.iter().enumerate() {
        let probability = (0..length).map(|t| mixture(alpha, y, t)).sum::<f64>().exp();
        for t in 0..length {
            for (v, g) in of_rows[i * length + t].iter().enumerate() {
                gradient[block(y, t) + v] += probability * g;
            }
        }
    }
    gradient
}

fn off(got: &[f64], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn mini_llm() -> MiniLlm {
    MiniLlm::new(1.0, WIDE).unwrap()
}

/// The whole future, not divided by its length.
const FUTURE: FutureKl = FutureKl { coef: 1.0, length_normalised: false };

#[test]
fn the_decomposition_is_exact_on_own_samples() {
    assert!(off(&expected(&mini_llm(), &FUTURE, 0.0, 2), &truth(2)) < 1e-6);
    assert!(off(&expected(&mini_llm(), &FUTURE, 0.0, 1), &truth(1)) < 1e-6);
    // Either part alone is another gradient.
    let none = FutureKl { coef: 0.0, ..FUTURE };
    assert!(off(&expected(&mini_llm(), &none, 0.0, 2), &truth(2)) > 1e-2);
    let long = MiniLlm::new(0.0, WIDE).unwrap();
    assert!(off(&expected(&long, &FUTURE, 0.0, 2), &truth(2)) > 1e-2);
}

#[test]
fn token_weights_are_unbiased_for_a_token() {
    for alpha in [0.2, 0.6] {
        assert!(off(&expected(&mini_llm(), &FUTURE, alpha, 1), &truth(1)) < 1e-6, "{alpha}");
    }
    let unweighted = PolicyObjective::new(ImportanceSampling);
    let signal = ReverseKl::default();
    assert!(off(&expected(&unweighted, &signal, 0.0, 1), &truth(1)) < 1e-6);
    assert!(off(&expected(&unweighted, &signal, 0.6, 1), &truth(1)) > 1e-2);
}

/// The KL of the next token after each prefix, prefixes weighing what the student makes of them
/// times the cut ratio; the weights do not move with the student.
fn of_likely_prefixes(power: f64) -> Vec<f64> {
    let (first, second) = (responses(1), responses(2));
    let weight = |a: &Vec<u32>| {
        let (p, q) = (logprob(&STUDENT, a, 0).exp(), logprob(&TEACHER, a, 0).exp());
        p * (q / p).powf(power).min(1.0)
    };
    let kl = |student: &Logits| {
        let of = |y: &Vec<u32>, t: usize| {
            let (p, q) = (logprob(student, y, t), logprob(&TEACHER, y, t));
            p.exp() * (p - q)
        };
        let next: f64 = first.iter().map(|y| of(y, 0)).sum();
        next + second.iter().map(|y| weight(&vec![y[0]]) * of(y, 1)).sum::<f64>()
    };
    let difference = |i: usize| {
        let at = |step: f64| {
            let mut student = STUDENT;
            student[i] += step;
            kl(&student)
        };
        (at(1e-5) - at(-1e-5)) / 2e-5
    };
    (0..STUDENT.len()).map(difference).collect()
}

#[test]
fn ratios_weigh_prefixes_by_the_lesser_probability() {
    let objective = PolicyObjective::new(ImportanceSampling);
    for power in [0.0, 0.5, 1.0] {
        let signal = ReverseKl::default().prefix_ratio(power as f32);
        let got = expected(&objective, &signal, 0.0, 2);
        assert!(off(&got, &of_likely_prefixes(power)) < 1e-6, "{power}");
    }
    let plain = expected(&objective, &ReverseKl::default(), 0.0, 2);
    assert!(off(&plain, &of_likely_prefixes(1.0)) > 1e-2);
}

/// Token by token the weights of what came before are left out: the method's known bias.
#[test]
fn token_weights_are_biased_beyond_it_and_sequence_weights_are_not() {
    assert!(off(&expected(&mini_llm(), &FUTURE, 0.6, 2), &truth(2)) > 1e-3);
    let weighted = |grain| {
        let (low, high) = (0.0, 1e6);
        let weights = SamplerCorrection { grain, outside: Outside::Truncate, low, high };
        PolicyObjective::new(ImportanceSampling.weighted(weights))
    };
    let returns = ReverseKl { coef: 1.0, discount: 1.0 };
    for alpha in [0.0, 0.2, 0.6] {
        let got = expected(&weighted(Grain::Sequence), &returns, alpha, 2);
        assert!(off(&got, &truth(2)) < 1e-6, "{alpha}");
    }
    assert!(off(&expected(&weighted(Grain::Token), &returns, 0.6, 2), &truth(2)) > 1e-3);
}
