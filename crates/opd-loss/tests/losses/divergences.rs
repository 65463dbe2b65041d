//! Mixed KL, total variation and top-k divergences: golden vectors, and laws.

use candle_core::{DType, Device, Tensor, Var};
use opd_batch::Ragged;
use opd_loss::{
    Aggregation, Direction, Divergence, DivergenceObjective, Error, LossBatch, Objective,
    ObjectiveInputs, ObjectiveOutput, Support, Tail, TeacherStates, TopKObjective,
};
use proptest::prelude::*;
use serde_json::Value;

use super::{assert_close, golden, gradient, numbers, scalar, var};

const MORE: &str = include_str!("../data/more_divergences.json");

/// A model whose hidden states are its logits: the head is the identity.
pub(super) struct Case {
    pub(super) rows: usize,
    pub(super) vocab: usize,
    pub(super) temperature: f64,
    pub(super) student: Vec<f64>,
    pub(super) teacher: Vec<f64>,
    pub(super) json: Value,
}

pub(super) fn cases(data: &str) -> Vec<Case> {
    let data: Value = serde_json::from_str(data).unwrap();
    let of = |json: &Value| Case {
        rows: json["T"].as_u64().unwrap() as usize,
        vocab: json["V"].as_u64().unwrap() as usize,
        temperature: json["temperature"].as_f64().unwrap(),
        student: golden::numbers(&json["student_logits"]),
        teacher: golden::numbers(&json["teacher_logits"]),
        json: json.clone(),
    };
    data["cases"].as_array().unwrap().iter().map(of).collect()
}

impl Case {
    /// Values and the gradient of their sum weighted by `weights`, as an objective has them: one
    /// row a token, so that the aggregation's weights are one over the number of rows.
    fn compute(&self, objective: &dyn Objective, dtype: DType) -> (ObjectiveOutput, Vec<f64>) {
        let identity = Tensor::eye(self.vocab, dtype, &Device::Cpu).unwrap();
        let student = var(&self.student, (self.rows, self.vocab), dtype);
        let teacher = var(&self.teacher, (self.rows, self.vocab), dtype).as_detached_tensor();
        let targets = Ragged::from_rows((0..self.rows).map(|_| vec![0]));
        let mask = Ragged::filled(targets.rows().clone(), true);
        let batch = LossBatch::supervised(targets, mask, &Aggregation::TokenSum).unwrap();
        let inputs = ObjectiveInputs {
            hidden: &student,
            head: (&identity).into(),
            temperature: self.temperature,
            batch: &batch,
            teacher: Some(TeacherStates { hidden: &teacher, head: (&identity).into() }),
        };
        let output = objective.compute(&inputs).unwrap();
        let gradient = gradient(&output.loss, &student);
        (output, gradient)
    }

    /// Compares with the vectors: the loss is the sum of the values, and a row's gradient that
    /// of the weighted sum over its weight.
    fn check(&self, name: &str, expected: &Value, objective: &dyn Objective) {
        let weights = golden::numbers(&self.json["token_weights"]);
        let values = golden::numbers(&expected["per_token"]);
        let want: Vec<f64> = golden::numbers(&expected["grad"])
            .into_iter()
            .enumerate()
            .map(|(i, g)| g / weights[i / self.vocab])
            .collect();
        // What is left outside a support is 1 less the sum of its probabilities: in f32 that loses
        // digits where the support holds nearly all.
        let single = if name.contains("bucket") { 1e-3 } else { 5e-5 };
        for (dtype, tolerance, least) in [(DType::F64, 1e-8, 1e-12), (DType::F32, single, 1e-7)] {
            let (output, gradient) = self.compute(objective, dtype);
            let total: f64 = values.iter().sum();
            let what = format!("{name}, V {}, {dtype:?}", self.vocab);
            let size = values.iter().fold(1.0f64, |size, value| size.max(value.abs()));
            assert_close(&what, &[scalar(&output.loss)], &[total], |_| tolerance * size);
            let largest = want.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
            assert_close(&what, &gradient, &want, |_| tolerance * largest + least);
        }
    }
}

#[test]
fn mixed_kl_and_total_variation() {
    for case in cases(MORE) {
        let expected = &case.json["expected"];
        for forward in ["0.0", "0.3", "1.0"] {
            let name = format!("mixed_{forward}");
            let objective = DivergenceObjective::mixed(forward.parse().unwrap()).unwrap();
            case.check(&name, &expected[&name], &objective);
        }
        let objective = DivergenceObjective::total_variation();
        case.check("total_variation", &expected["total_variation"], &objective);
    }
}

#[test]
fn top_k_on_either_support_in_every_mode() {
    let tails = [
        ("bucket", Tail::Bucket),
        ("renormalised", Tail::Renormalised),
        ("truncated", Tail::Truncated),
    ];
    let supports = [("student", Support::Student), ("teacher", Support::Teacher)];
    let directions = [("forward", Direction::Forward), ("reverse", Direction::Reverse)];
    let mut checked = 0;
    for case in cases(MORE) {
        for (support_name, support) in supports {
            for (tail_name, tail) in tails {
                for (direction_name, direction) in directions {
                    for k in [1, 3] {
                        let name = format!("top{k}_{support_name}_{tail_name}_{direction_name}");
                        let expected = &case.json["expected"][&name];
                        match TopKObjective::biased(k, support, tail, direction) {
                            Ok(objective) => case.check(&name, expected, &objective),
                            Err(Error::Refused { .. }) => assert!(expected.is_null(), "{name}"),
                            Err(error) => panic!("{error}"),
                        }
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(checked, 4 * 2 * 3 * 2 * 2);
}

fn random(rows: usize, vocab: usize, seed: u64, temperature: f64) -> Case {
    Case {
        rows,
        vocab,
        temperature,
        student: numbers(rows * vocab, seed, 4.0),
        teacher: numbers(rows * vocab, seed + 1, 4.0),
        json: Value::Null,
    }
}

fn objectives(k: usize) -> Vec<Box<dyn Objective>> {
    let jsd = |beta| DivergenceObjective::new(Divergence::Jsd { beta }).unwrap();
    let skew = |alpha| DivergenceObjective::new(Divergence::SkewReverseKl { alpha }).unwrap();
    let top = |support, tail, direction| {
        Box::new(TopKObjective::new(k, support, tail, direction).unwrap())
    };
    vec![
        Box::new(DivergenceObjective::mixed(0.3).unwrap()),
        Box::new(DivergenceObjective::total_variation()),
        Box::new(jsd(0.3)),
        Box::new(skew(0.1)),
        top(Support::Teacher, Tail::Bucket, Direction::Forward),
        top(Support::Student, Tail::Bucket, Direction::Reverse),
        top(Support::Teacher, Tail::Renormalised, Direction::Reverse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn divergences_are_at_least_0_and_0_where_both_agree(
        vocab in 3usize..20, seed in 0u64..999, temperature in 0.5f64..2.0,
    ) {
        let mut case = random(2, vocab, seed, temperature);
        for objective in objectives(2) {
            let (output, _) = case.compute(objective.as_ref(), DType::F64);
            prop_assert!(scalar(&output.loss) > 0.0, "{}", objective.name());
        }
        case.teacher = case.student.clone();
        for objective in objectives(2) {
            let (output, gradient) = case.compute(objective.as_ref(), DType::F64);
            prop_assert!(scalar(&output.loss).abs() < 1e-10, "{}", objective.name());
            let largest = gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
            prop_assert!(largest < 1e-7, "{}: {largest}", objective.name());
        }
    }

    #[test]
    fn jsd_is_mirrored_where_the_sides_are_swapped(
        vocab in 2usize..20, seed in 0u64..999, beta in 0.05f64..0.95,
    ) {
        let case = random(2, vocab, seed, 1.0);
        let swapped = Case { student: case.teacher.clone(), teacher: case.student.clone(), ..random(2, vocab, seed, 1.0) };
        let of = |case: &Case, beta| {
            let objective = DivergenceObjective::new(Divergence::Jsd { beta }).unwrap();
            scalar(&case.compute(&objective, DType::F64).0.loss)
        };
        prop_assert!((of(&case, beta) - of(&swapped, 1.0 - beta)).abs() < 1e-10);
    }

    #[test]
    fn the_bucket_is_below_the_full_kl_and_rises_to_it(vocab in 4usize..20, seed in 0u64..999) {
        let case = random(2, vocab, seed, 0.8);
        for (direction, kind) in
            [(Direction::Forward, Divergence::ForwardKl), (Direction::Reverse, Divergence::ReverseKl)]
        {
            let full = DivergenceObjective::new(kind).unwrap();
            let full = scalar(&case.compute(&full, DType::F64).0.loss);
            for support in [Support::Teacher, Support::Student] {
                let mut below = 0.0;
                for k in 1..=vocab {
                    let part = TopKObjective::new(k, support, Tail::Bucket, direction).unwrap();
                    let part = scalar(&case.compute(&part, DType::F64).0.loss);
                    prop_assert!(part >= below - 1e-7, "k {k}: {part} after {below}");
                    prop_assert!(part <= full + 1e-7, "k {k}: {part}, full {full}");
                    below = part;
                }
                prop_assert!((below - full).abs() < 1e-5 * (1.0 + full), "{below}, full {full}");
            }
        }
    }
}

#[test]
fn what_says_nothing_or_something_else_is_refused() {
    let new = |k, tail| TopKObjective::new(k, Support::Teacher, tail, Direction::Reverse);
    let message = new(1, Tail::Renormalised).unwrap_err().to_string();
    assert!(message.contains("0 whatever the models say"), "{message}");
    let message = new(8, Tail::Truncated).unwrap_err().to_string();
    assert!(message.contains("pushes mass off the support"), "{message}");
    assert!(new(0, Tail::Bucket).unwrap_err().to_string().contains("top_k must be at least 1"));
    assert!(DivergenceObjective::mixed(1.5).unwrap_err().to_string().contains("from 0 to 1"));

    let case = random(2, 5, 1, 1.0);
    let student: Var = var(&case.student, (2, 5), DType::F64);
    let identity = |n| Tensor::eye(n, DType::F64, &Device::Cpu).unwrap();
    let targets = Ragged::from_rows([vec![0, 1]]);
    let mask = Ragged::filled(targets.rows().clone(), true);
    let batch = LossBatch::supervised(targets, mask, &Aggregation::TokenMean).unwrap();
    let teacher = var(&numbers(8, 3, 1.0), (2, 4), DType::F64).as_detached_tensor();
    let (ours, theirs) = (identity(5), identity(4));
    let inputs = ObjectiveInputs {
        hidden: &student,
        head: (&ours).into(),
        temperature: 1.0,
        batch: &batch,
        teacher: None,
    };
    let objective = new(3, Tail::Bucket).unwrap();
    assert!(matches!(objective.compute(&inputs), Err(Error::MissingTeacher { .. })));
    let teacher = Some(TeacherStates { hidden: &teacher, head: (&theirs).into() });
    let error = objective.compute(&ObjectiveInputs { teacher, ..inputs }).unwrap_err();
    assert!(error.to_string().contains("the student's vocabulary"), "{error}");
}

/// What a server says of the teacher's likeliest ids trains as the teacher's hidden states do; a
/// token that it left out reaches nothing.
#[test]
fn scores_of_a_server_stand_for_hidden_states() {
    use opd_batch::{Rollout, RolloutBatch, ScoredBatch, TeacherScores, TopLogprobs};
    let (rows, vocab, k) = (4, 9, 3);
    let case = random(rows, vocab, 5, 1.0);
    let identity = Tensor::eye(vocab, DType::F64, &Device::Cpu).unwrap();
    let teacher = var(&case.teacher, (rows, vocab), DType::F64).as_detached_tensor();
    let query = opd_kernels::RowQuery { temperature: 1.0, ids: &[2], top: k, rank: false };
    let answers = opd_kernels::linear_row_logprobs(&teacher, &identity, &vec![query; rows]);
    let answers = answers.unwrap();
    let rollout = |n| Rollout {
        prompt: vec![0],
        response: vec![2; n],
        sampler_logprobs: vec![-1.0; n],
        ..Rollout::default()
    };
    let rollouts = RolloutBatch::from_rollouts(vec![rollout(3), rollout(1)]).unwrap();
    let batch = |missing: Option<usize>| {
        let score = |t: usize| (missing != Some(t)).then(|| answers[t].logprobs[0]);
        let logprobs = Ragged::from_rows([(0..3).map(score).collect(), vec![score(3)]]);
        let tops = answers.iter().enumerate().flat_map(|(t, answer)| {
            let lost = missing == Some(t);
            answer.top.iter().map(move |&(id, p)| if lost { (0, f32::NAN) } else { (id, p) })
        });
        let (ids, tops) = tops.unzip();
        let top = Some(TopLogprobs { k, ids, logprobs: tops });
        let scored = ScoredBatch::from_sampler(&rollouts);
        let scored = scored.with_teacher(TeacherScores { logprobs, top, spans: None }).unwrap();
        let zeros = Ragged::filled(rollouts.rows().clone(), 0.0);
        LossBatch::new(&scored, zeros, &Aggregation::TokenSum).unwrap()
    };
    let run = |batch: &LossBatch, states: bool| {
        let student = var(&case.student, (rows, vocab), DType::F64);
        let objective =
            TopKObjective::new(k, Support::Teacher, Tail::Bucket, Direction::Reverse).unwrap();
        assert_eq!(objective.needs().teacher_top, Some(k));
        let teacher = TeacherStates { hidden: &teacher, head: (&identity).into() };
        let output = objective
            .compute(&ObjectiveInputs {
                hidden: &student,
                head: (&identity).into(),
                temperature: 1.0,
                batch,
                teacher: states.then_some(teacher),
            })
            .unwrap();
        let kl = output.metrics.iter().find(|metric| metric.name == "kl_teacher").unwrap().mean();
        (scalar(&output.loss), kl, gradient(&output.loss, &student))
    };
    for missing in [None, Some(1)] {
        let batch = batch(missing);
        let (loss, kl, gradient) = run(&batch, false);
        let (want, want_kl, want_gradient) = run(&batch, true);
        assert_close("loss", &[loss, kl], &[want, want_kl], |x| 1e-5 * (1.0 + x.abs()));
        assert_close("gradient", &gradient, &want_gradient, |_| 1e-5);
        if missing.is_some() {
            assert!(gradient[vocab..2 * vocab].iter().all(|g| *g == 0.0));
        }
        // Micro-batches carry their tokens' entries with them.
        let second = batch.select(&[1]).unwrap();
        let (_, entries) = second.teacher_top().unwrap();
        assert_eq!(entries.to_vec(), answers[3].top);
    }
    // On the student's own support a server cannot know which ids are meant beforehand.
    let own = TopKObjective::new(k, Support::Student, Tail::Bucket, Direction::Reverse).unwrap();
    assert!(own.needs().teacher_distribution && own.needs().teacher_top.is_none());
}
