//! Central differences in f64.

use candle_core::{DType, Tensor, Var};
use opd_kernels::{
    Divergence, Head, Products, Projection, Softmax, TokenOptions, divergence, linear_divergence,
    linear_token_logprobs, linear_token_scores, token_logprobs, token_scores,
};

use super::{
    gradients, ids, matrix, numbers,
    scores::{id_matrix, total},
    weighted,
};

const STEP: f64 = 1e-5;

/// Asserts that the gradient of `f` at `x` is `(f(x + h) - f(x - h)) / 2h` in every entry.
fn assert_gradient(what: &str, rows: usize, x: &[f64], f: impl Fn(&Var) -> Tensor) {
    let cols = x.len() / rows;
    let var = matrix(x, rows, cols, DType::F64);
    let analytic = gradients(&f(&var), &[&var]).remove(0);
    let at = |i: usize, step: f64| {
        let mut x = x.to_vec();
        x[i] += step;
        f(&matrix(&x, rows, cols, DType::F64)).to_scalar::<f64>().unwrap()
    };
    for (i, analytic) in analytic.into_iter().enumerate() {
        let numeric = (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
        let off = (analytic - numeric).abs();
        assert!(off < 1e-8, "{what}, entry {i}: {analytic}, differences say {numeric}");
    }
}

const ROWS: usize = 3;
const VOCAB: usize = 6;
const WIDTH: usize = 4;

fn weights(seed: u64) -> Vec<f64> {
    numbers(ROWS, seed, 1.0)
}

fn sum(parts: [(&Tensor, u64); 3]) -> Tensor {
    let parts = parts.map(|(part, seed)| weighted(part, &weights(seed)).unwrap());
    Tensor::stack(&parts, 0).unwrap().sum_all().unwrap()
}

fn kinds() -> [Divergence; 5] {
    [
        Divergence::ForwardKl,
        Divergence::ReverseKl,
        Divergence::Jsd { beta: 0.3 },
        Divergence::SkewForwardKl { alpha: 0.1 },
        Divergence::SkewReverseKl { alpha: 0.1 },
    ]
}

#[test]
fn of_token_logprobs() {
    let ids = ids(&[0, 5, 2]);
    for temperature in [1.0, 0.6] {
        let f = |logits: &Var| {
            let out = token_logprobs(logits, &ids, temperature).unwrap();
            sum([(&out.logprobs, 1), (&out.lse, 2), (&out.entropy, 3)])
        };
        assert_gradient("logits", ROWS, &numbers(ROWS * VOCAB, 4, 2.0), f);
    }
}

#[test]
fn of_linear_token_logprobs() {
    let ids = ids(&[0, 5, 2]);
    let (hidden, head) = (numbers(ROWS * WIDTH, 5, 1.0), numbers(VOCAB * WIDTH, 6, 1.0));
    let f = |hidden: &Var, head: &Var| {
        let out = linear_token_logprobs(hidden, head, &ids, 0.8).unwrap();
        sum([(&out.logprobs, 1), (&out.lse, 2), (&out.entropy, 3)])
    };
    let fixed_head = matrix(&head, VOCAB, WIDTH, DType::F64);
    assert_gradient("hidden", ROWS, &hidden, |hidden| f(hidden, &fixed_head));
    let fixed_hidden = matrix(&hidden, ROWS, WIDTH, DType::F64);
    assert_gradient("head", VOCAB, &head, |head| f(&fixed_hidden, head));
}

/// Everything that can be asked, in each of its combinations; an id is named that is also the target.
fn options(named: &Tensor) -> Vec<TokenOptions<'_>> {
    let mut all = Vec::new();
    for (temperature, soft_cap) in [(1.0, None), (0.6, None), (0.6, Some(1.5))] {
        let softmax = Softmax { temperature, soft_cap };
        for (entropy, top_k, named) in
            [(false, 0, None), (true, 0, None), (false, 2, None), (true, 3, Some(named))]
        {
            all.push(TokenOptions { softmax, entropy, argmax: true, top_k, named });
        }
    }
    all
}

#[test]
fn of_token_scores() {
    let (ids, named) = (ids(&[0, 5, 2]), id_matrix(&[1, 0, 3, 3, 4, 2], ROWS, 2));
    for options in options(&named) {
        let f = |logits: &Var| total(&token_scores(logits, &ids, &options).unwrap(), 1);
        assert_gradient(&format!("{options:?}"), ROWS, &numbers(ROWS * VOCAB, 4, 2.0), f);
    }
}

#[test]
fn of_linear_token_scores() {
    let (ids, named) = (ids(&[0, 5, 2]), id_matrix(&[1, 0, 3, 3, 4, 2], ROWS, 2));
    let (hidden, head) = (numbers(ROWS * WIDTH, 5, 1.0), numbers(VOCAB * WIDTH, 6, 1.0));
    let bias = numbers(VOCAB, 7, 1.0);
    for options in options(&named) {
        let f = |hidden: &Var, head: &Var, bias: &Var| {
            let bias = bias.squeeze(0).unwrap();
            let head = Head::new(head, Products::Full).with_bias(&bias);
            total(&linear_token_scores(hidden, head, &ids, &options).unwrap(), 1)
        };
        let fixed_hidden = matrix(&hidden, ROWS, WIDTH, DType::F64);
        let fixed_head = matrix(&head, VOCAB, WIDTH, DType::F64);
        let fixed_bias = matrix(&bias, 1, VOCAB, DType::F64);
        let what = |name: &str| format!("{name}, {options:?}");
        let of_hidden = |hidden: &Var| f(hidden, &fixed_head, &fixed_bias);
        assert_gradient(&what("hidden"), ROWS, &hidden, of_hidden);
        assert_gradient(&what("head"), VOCAB, &head, |head| f(&fixed_hidden, head, &fixed_bias));
        assert_gradient(&what("bias"), 1, &bias, |bias| f(&fixed_hidden, &fixed_head, bias));
    }
}

#[test]
fn of_divergence() {
    let ids = ids(&[0, 5, 2]);
    let teacher = matrix(&numbers(ROWS * VOCAB, 8, 2.0), ROWS, VOCAB, DType::F64);
    for kind in kinds() {
        let f = |student: &Var| {
            let out = divergence(student, &teacher, &ids, kind, 0.7).unwrap();
            sum([(&out.divergence, 1), (&out.student_entropy, 2), (&out.student_logprobs, 3)])
        };
        assert_gradient(&format!("{kind:?}"), ROWS, &numbers(ROWS * VOCAB, 7, 2.0), f);
    }
}

#[test]
fn of_linear_divergence() {
    let ids = ids(&[0, 5, 2]);
    let (hidden, head) = (numbers(ROWS * WIDTH, 5, 1.0), numbers(VOCAB * WIDTH, 6, 1.0));
    let teacher_hidden = matrix(&numbers(ROWS * 2, 9, 1.0), ROWS, 2, DType::F64);
    let teacher_head = matrix(&numbers(VOCAB * 2, 10, 1.0), VOCAB, 2, DType::F64);
    let teacher = Projection::new(&teacher_hidden, &teacher_head);
    let fixed_head = matrix(&head, VOCAB, WIDTH, DType::F64);
    let fixed_hidden = matrix(&hidden, ROWS, WIDTH, DType::F64);
    for kind in kinds() {
        let f = |hidden: &Var, head: &Var| {
            let student = Projection::new(hidden, head);
            let out = linear_divergence(student, teacher, &ids, kind, 1.3).unwrap();
            sum([(&out.divergence, 1), (&out.student_entropy, 2), (&out.student_logprobs, 3)])
        };
        let what = format!("{kind:?}");
        assert_gradient(&what, ROWS, &hidden, |hidden| f(hidden, &fixed_head));
        assert_gradient(&what, VOCAB, &head, |head| f(&fixed_hidden, head));
    }
}
