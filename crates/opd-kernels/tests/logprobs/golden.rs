use candle_core::{DType, Tensor, Var};
use opd_kernels::{
    Divergence, DivergenceOutput, TokenLogprobs, divergence, reference, token_logprobs,
};
use serde_json::Value;

use super::{assert_close, gradients, host, ids, matrix, row_largest, weighted};

const DATA: &str = include_str!("../data/divergences.json");

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

struct Case {
    name: String,
    rows: usize,
    width: usize,
    temperature: f64,
    student: Vec<f64>,
    teacher: Vec<f64>,
    ids: Tensor,
    weights: Vec<f64>,
    expected: Value,
}

fn cases() -> Vec<Case> {
    let data: Value = serde_json::from_str(DATA).unwrap();
    let of = |(i, case): (usize, &Value)| {
        let ids: Vec<u32> = numbers(&case["target_ids"]).iter().map(|&id| id as u32).collect();
        Case {
            name: format!("case {i}"),
            rows: case["T"].as_u64().unwrap() as usize,
            width: case["V"].as_u64().unwrap() as usize,
            temperature: case["temperature"].as_f64().unwrap(),
            student: numbers(&case["student_logits"]),
            teacher: numbers(&case["teacher_logits"]),
            ids: super::ids(&ids),
            weights: numbers(&case["token_weights"]),
            expected: case.clone(),
        }
    };
    data["cases"].as_array().unwrap().iter().enumerate().map(of).collect()
}

impl Case {
    fn logits(&self, values: &[f64], dtype: DType) -> Var {
        matrix(values, self.rows, self.width, dtype)
    }

    fn values(&self, what: &str, got: &Tensor, want: &Value, dtype: DType) {
        let lse = numbers(&self.expected["log_prob"]["logsumexp"]);
        let want = numbers(want);
        let tolerance = |i: usize| match dtype {
            DType::F64 => 1e-6 * want[i].abs() + 1e-12,
            _ => 5e-6 * lse[i].abs().max(1.0),
        };
        assert_close(&format!("{} {what} {dtype:?}", self.name), &host(got), &want, tolerance);
    }

    fn gradient(&self, what: &str, of: &Tensor, logits: &Var, want: &Value, dtype: DType) {
        let loss = weighted(of, &self.weights).unwrap();
        let got = gradients(&loss, &[logits]).remove(0);
        let want = numbers(want);
        let largest = row_largest(&want, self.width);
        let tolerance = |i: usize| match dtype {
            DType::F64 => 1e-6 * want[i].abs() + 1e-12,
            // The vectors carry f64 rounding of their own: differences of numbers near 1.
            _ => 2e-5 * largest[i] + 1e-16,
        };
        let what = format!("{} gradient of {what} {dtype:?}", self.name);
        assert_close(&what, &got, &want, tolerance);
    }

    fn check_token_logprobs(
        &self,
        dtype: DType,
        op: impl Fn(&Tensor, &Tensor, f64) -> opd_kernels::Result<TokenLogprobs>,
    ) {
        let logits = self.logits(&self.student, dtype);
        let out = op(&logits, &self.ids, self.temperature).unwrap();
        let expected = &self.expected["log_prob"];
        self.values("log-prob", &out.logprobs, &expected["log_prob"], dtype);
        self.values("entropy", &out.entropy, &expected["entropy"], dtype);
        self.values("log-sum-exp", &out.lse, &expected["logsumexp"], dtype);
        self.gradient("log-prob", &out.logprobs, &logits, &expected["grad_log_prob"], dtype);
        self.gradient("entropy", &out.entropy, &logits, &expected["grad_entropy"], dtype);
    }

    fn check_divergence(
        &self,
        dtype: DType,
        op: impl Fn(&Tensor, &Tensor, &Tensor, Divergence, f64) -> opd_kernels::Result<DivergenceOutput>,
    ) {
        let kinds = [
            ("jsd_beta_0.0", Divergence::ForwardKl),
            ("jsd_beta_0.0", Divergence::Jsd { beta: 0.0 }),
            ("jsd_beta_0.1", Divergence::Jsd { beta: 0.1 }),
            ("jsd_beta_0.5", Divergence::Jsd { beta: 0.5 }),
            ("jsd_beta_0.9", Divergence::Jsd { beta: 0.9 }),
            ("jsd_beta_1.0", Divergence::Jsd { beta: 1.0 }),
            ("jsd_beta_1.0", Divergence::ReverseKl),
            ("skew_forward_kl_0.1", Divergence::SkewForwardKl { alpha: 0.1 }),
            ("skew_reverse_kl_0.1", Divergence::SkewReverseKl { alpha: 0.1 }),
        ];
        let log_prob = &self.expected["log_prob"];
        for (name, kind) in kinds {
            let student = self.logits(&self.student, dtype);
            let teacher = self.logits(&self.teacher, dtype);
            let out = op(&student, &teacher, &self.ids, kind, self.temperature).unwrap();
            let expected = &self.expected[name];
            self.values(name, &out.divergence, &expected["per_token"], dtype);
            self.gradient(name, &out.divergence, &student, &expected["grad"], dtype);
            self.values("entropy", &out.student_entropy, &log_prob["entropy"], dtype);
            self.values("log-prob", &out.student_logprobs, &log_prob["log_prob"], dtype);
            let of = &out.student_entropy;
            self.gradient("entropy", of, &student, &log_prob["grad_entropy"], dtype);
            let of = &out.student_logprobs;
            self.gradient("log-prob", of, &student, &log_prob["grad_log_prob"], dtype);
        }
    }
}

#[test]
fn definitions_in_f64() {
    for case in cases() {
        case.check_token_logprobs(DType::F64, reference::token_logprobs);
        case.check_divergence(DType::F64, reference::divergence);
    }
}

#[test]
fn kernels_in_f64() {
    for case in cases() {
        case.check_token_logprobs(DType::F64, token_logprobs);
        case.check_divergence(DType::F64, divergence);
    }
}

#[test]
fn log_prob_kernels_in_f32() {
    for case in cases() {
        case.check_token_logprobs(DType::F32, token_logprobs);
    }
}

#[test]
fn divergence_kernels_in_f32() {
    for case in cases() {
        case.check_divergence(DType::F32, divergence);
    }
}

#[test]
fn the_teacher_gets_no_gradient() {
    let teacher = matrix(&super::numbers(6, 1, 1.0), 2, 3, DType::F64);
    let student = matrix(&super::numbers(6, 2, 1.0), 2, 3, DType::F64);
    let ids = ids(&[0, 2]);
    let out = divergence(&student, &teacher, &ids, Divergence::ReverseKl, 1.0).unwrap();
    let store = (out.divergence + out.teacher_logprobs).unwrap().backward().unwrap();
    assert!(store.get(&student).is_some());
    assert!(store.get(&teacher).is_none());
}
