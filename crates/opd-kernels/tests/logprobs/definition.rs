//! The fused linear forms against the definitions, over shapes.

use candle_core::{DType, Tensor, Var};
use opd_kernels::{
    Divergence, Projection, divergence, linear_divergence, linear_token_logprobs, reference,
    token_logprobs,
};
use proptest::prelude::*;

use super::{assert_close, gradients, host, ids, matrix, numbers, weighted};

struct Model {
    hidden: Var,
    head: Var,
}

impl Model {
    fn new((rows, width, vocab): (usize, usize, usize), seed: u64) -> Self {
        let hidden = numbers(rows * width, seed, 1.5);
        let head = numbers(vocab * width, seed + 1, 1.0);
        Self {
            hidden: matrix(&hidden, rows, width, DType::F64),
            head: matrix(&head, vocab, width, DType::F64),
        }
    }

    fn projection(&self) -> Projection<'_> {
        Projection::new(&self.hidden, &self.head)
    }

    fn logits(&self) -> Tensor {
        self.hidden.matmul(&self.head.t().unwrap()).unwrap()
    }
}

fn targets(rows: usize, vocab: usize, seed: u64) -> Tensor {
    let uniform = numbers(rows, seed, 0.5);
    let of = |x: &f64| (((x + 0.5) * vocab as f64) as u32).min(vocab as u32 - 1);
    ids(&uniform.iter().map(of).collect::<Vec<_>>())
}

fn kind() -> impl Strategy<Value = Divergence> {
    prop_oneof![
        Just(Divergence::ForwardKl),
        Just(Divergence::ReverseKl),
        (0.0..=1.0f64).prop_map(|beta| Divergence::Jsd { beta }),
        (0.0..0.9f64).prop_map(|alpha| Divergence::SkewForwardKl { alpha }),
        (0.0..0.9f64).prop_map(|alpha| Divergence::SkewReverseKl { alpha }),
    ]
}

/// Every output with its own weights, so that their gradients cannot hide each other.
fn sum(outputs: &[&Tensor], seed: u64) -> Tensor {
    let part = |(i, output): (usize, &&Tensor)| {
        weighted(output, &numbers(output.elem_count(), seed + i as u64, 1.0)).unwrap()
    };
    let parts: Vec<Tensor> = outputs.iter().enumerate().map(part).collect();
    Tensor::stack(&parts, 0).unwrap().sum_all().unwrap()
}

fn same(what: &str, got: &[f64], want: &[f64]) {
    assert_close(what, got, want, |i| 1e-11 * (1.0 + want[i].abs()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn token_logprobs_of_any_shape(
        rows in 1usize..150, width in 1usize..9, vocab in 1usize..70,
        temperature in 0.3..3.0f64, seed in 0u64..1000,
    ) {
        let model = Model::new((rows, width, vocab), seed);
        let ids = targets(rows, vocab, seed + 7);
        let want = reference::token_logprobs(&model.logits(), &ids, temperature).unwrap();
        let want_sum = sum(&[&want.logprobs, &want.lse, &want.entropy], seed);
        let want_gradients = gradients(&want_sum, &[&model.hidden, &model.head]);
        let linear = linear_token_logprobs(&model.hidden, &model.head, &ids, temperature).unwrap();
        let dense = token_logprobs(&model.logits(), &ids, temperature).unwrap();
        for got in [linear, dense] {
            same("log-probs", &host(&got.logprobs), &host(&want.logprobs));
            same("log-sum-exp", &host(&got.lse), &host(&want.lse));
            same("entropy", &host(&got.entropy), &host(&want.entropy));
            let got = sum(&[&got.logprobs, &got.lse, &got.entropy], seed);
            let got = gradients(&got, &[&model.hidden, &model.head]);
            same("gradient of hidden", &got[0], &want_gradients[0]);
            same("gradient of head", &got[1], &want_gradients[1]);
        }
    }

    #[test]
    fn divergences_of_any_shape(
        rows in 1usize..150, widths in (1usize..9, 1usize..9), vocab in 1usize..70,
        temperature in 0.3..3.0f64, kind in kind(), seed in 0u64..1000,
    ) {
        let model = Model::new((rows, widths.0, vocab), seed);
        let teacher = Model::new((rows, widths.1, vocab), seed + 50);
        let ids = targets(rows, vocab, seed + 7);
        let logits = (model.logits(), teacher.logits());
        let want = reference::divergence(&logits.0, &logits.1, &ids, kind, temperature).unwrap();
        let parts = [&want.divergence, &want.student_entropy, &want.student_logprobs];
        let want_gradients = gradients(&sum(&parts, seed), &[&model.hidden, &model.head]);
        let (student, theirs) = (model.projection(), teacher.projection());
        let linear = linear_divergence(student, theirs, &ids, kind, temperature).unwrap();
        let dense = divergence(&logits.0, &logits.1, &ids, kind, temperature).unwrap();
        for got in [linear, dense] {
            same("divergence", &host(&got.divergence), &host(&want.divergence));
            same("entropy", &host(&got.student_entropy), &host(&want.student_entropy));
            same("student", &host(&got.student_logprobs), &host(&want.student_logprobs));
            same("teacher", &host(&got.teacher_logprobs), &host(&want.teacher_logprobs));
            let parts = [&got.divergence, &got.student_entropy, &got.student_logprobs];
            let got = gradients(&sum(&parts, seed), &[&model.hidden, &model.head]);
            same("gradient of hidden", &got[0], &want_gradients[0]);
            same("gradient of head", &got[1], &want_gradients[1]);
        }
    }

    #[test]
    fn no_divergence_from_oneself(
        rows in 1usize..20, vocab in 1usize..70, kind in kind(), seed in 0u64..1000,
    ) {
        let model = Model::new((rows, 3, vocab), seed);
        let ids = targets(rows, vocab, seed);
        let out = linear_divergence(model.projection(), model.projection(), &ids, kind, 1.0);
        let out = out.unwrap().divergence;
        prop_assert!(host(&out).iter().all(|divergence| divergence.abs() < 1e-13));
        let gradient = gradients(&out.sum_all().unwrap(), &[&model.hidden]).remove(0);
        prop_assert!(gradient.iter().all(|gradient| gradient.abs() < 1e-13));
    }
}

#[test]
fn more_rows_than_one_chunk() {
    let shape = (333, 3, 100_003);
    let model = Model::new(shape, 3);
    let ids = targets(shape.0, shape.2, 4);
    let want = reference::token_logprobs(&model.logits(), &ids, 1.0).unwrap();
    let want_sum = sum(&[&want.logprobs, &want.lse, &want.entropy], 5);
    let want = gradients(&want_sum, &[&model.hidden, &model.head]);
    let got = linear_token_logprobs(&model.hidden, &model.head, &ids, 1.0).unwrap();
    let got_sum = sum(&[&got.logprobs, &got.lse, &got.entropy], 5);
    same("sum", &host(&got_sum), &host(&want_sum));
    let got = gradients(&got_sum, &[&model.hidden, &model.head]);
    same("gradient of hidden", &got[0], &want[0]);
    same("gradient of head", &got[1], &want[1]);
}

#[test]
fn strided_arguments() {
    let transposed = matrix(&numbers(35, 1, 2.0), 7, 5, DType::F64);
    let logits = transposed.t().unwrap();
    let ids = ids(&[0, 6, 3, 3, 1]);
    let want = token_logprobs(&logits.contiguous().unwrap(), &ids, 1.0).unwrap();
    let got = token_logprobs(&logits, &ids, 1.0).unwrap();
    assert_eq!(host(&got.entropy), host(&want.entropy));
    let part = matrix(&numbers(40, 2, 2.0), 8, 5, DType::F64);
    let part = part.narrow(0, 2, 5).unwrap();
    let whole = part.force_contiguous().unwrap();
    let got = linear_token_logprobs(
        &part,
        &logits.narrow(0, 0, 4).unwrap().t().unwrap().contiguous().unwrap(),
        &ids,
        1.0,
    );
    assert!(got.is_err(), "a head of another width");
    let head = matrix(&numbers(35, 3, 1.0), 7, 5, DType::F64);
    let got = linear_token_logprobs(&part, &head, &ids, 1.0).unwrap();
    let want = linear_token_logprobs(&whole, &head, &ids, 1.0).unwrap();
    assert_eq!(host(&got.logprobs), host(&want.logprobs));
}
