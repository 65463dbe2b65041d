//! Log-probs of several ids per row, and the total variation distance: against their definitions
//! and central differences.

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    DivergenceOutput, Projection, RowQuery, SupportLogprobs, linear_row_logprobs,
    linear_support_logprobs, linear_total_variation, reference,
};
use proptest::prelude::*;

use super::{assert_close, gradients, host, ids, matrix, numbers, weighted};

const STEP: f64 = 1e-6;

fn support(rows: usize, k: usize, vocab: usize, seed: u64) -> Tensor {
    let uniform = numbers(rows * k, seed, 0.5);
    let of = |x: &f64| (((x + 0.5) * vocab as f64) as u32).min(vocab as u32 - 1);
    let values: Vec<u32> = uniform.iter().map(of).collect();
    Tensor::from_slice(&values, (rows, k), &Device::Cpu).unwrap()
}

fn of_support(out: &SupportLogprobs, seed: u64) -> Tensor {
    let flat = out.logprobs.flatten_all().unwrap();
    let entropy = weighted(&out.entropy, &numbers(out.entropy.elem_count(), seed, 1.0)).unwrap();
    let logprobs = weighted(&flat, &numbers(flat.elem_count(), seed + 1, 1.0)).unwrap();
    (entropy + logprobs).unwrap()
}

fn of_distance(out: &DivergenceOutput, seed: u64) -> Tensor {
    let parts = [(&out.divergence, 0), (&out.student_entropy, 1), (&out.student_logprobs, 2)];
    let parts =
        parts.map(|(part, i)| weighted(part, &numbers(part.elem_count(), seed + i, 1.0)).unwrap());
    Tensor::stack(&parts, 0).unwrap().sum_all().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn fused_forms_are_their_definitions(
        rows in 1usize..9, width in 1usize..5, vocab in 1usize..70, k in 1usize..6,
        seed in 0u64..999, temperature in 0.5f64..2.0,
    ) {
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
            let hidden = matrix(&numbers(rows * width, seed, 2.0), rows, width, dtype);
            let head = matrix(&numbers(vocab * width, seed + 1, 2.0), vocab, width, dtype);
            let both = |fused: Tensor, plain: Tensor| {
                let got = gradients(&fused, &[&hidden, &head]).concat();
                let want = gradients(&plain, &[&hidden, &head]).concat();
                let largest = want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
                assert_close("gradient", &got, &want, |_| tolerance * largest);
            };
            let chosen = support(rows, k, vocab, seed + 2);
            let got = linear_support_logprobs(&hidden, &head, &chosen, temperature).unwrap();
            let want = reference::linear_support_logprobs(&hidden, &head, &chosen, temperature);
            let want = want.unwrap();
            let close = |what: &str, got: &Tensor, want: &Tensor| {
                let want = host(want);
                assert_close(what, &host(got), &want, |i| tolerance * want[i].abs().max(1.0));
            };
            close("log-probs", &got.logprobs, &want.logprobs);
            close("entropy", &got.entropy, &want.entropy);
            both(of_support(&got, seed), of_support(&want, seed));

            let teacher_hidden = matrix(&numbers(rows * 2, seed + 3, 2.0), rows, 2, dtype);
            let teacher_head = matrix(&numbers(vocab * 2, seed + 4, 2.0), vocab, 2, dtype);
            let student = Projection::new(&hidden, &head);
            let teacher = Projection::new(&teacher_hidden, &teacher_head);
            let targets = support(rows, 1, vocab, seed + 5).squeeze(1).unwrap();
            let got = linear_total_variation(student, teacher, &targets, temperature).unwrap();
            let want = reference::linear_total_variation(student, teacher, &targets, temperature);
            let want = want.unwrap();
            close("distance", &got.divergence, &want.divergence);
            close("entropy", &got.student_entropy, &want.student_entropy);
            close("student", &got.student_logprobs, &want.student_logprobs);
            close("teacher", &got.teacher_logprobs, &want.teacher_logprobs);
            prop_assert!(host(&got.divergence).iter().all(|d| (0.0..1.0 + 1e-6).contains(d)));
            both(of_distance(&got, seed), of_distance(&want, seed));
        }
    }
}

/// Asserts that the gradient of `f` at `var` is what central differences say.
fn assert_gradient(what: &str, var: &Var, f: impl Fn(&Var) -> Tensor) {
    let analytic = gradients(&f(var), &[var]).remove(0);
    let (rows, cols) = var.dims2().unwrap();
    let values = host(var);
    let at = |i: usize, step: f64| {
        let mut values = values.clone();
        values[i] += step;
        f(&matrix(&values, rows, cols, DType::F64)).to_scalar::<f64>().unwrap()
    };
    for (i, analytic) in analytic.into_iter().enumerate() {
        let numeric = (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
        let off = (analytic - numeric).abs();
        assert!(off < 2e-8, "{what}, entry {i}: {analytic}, differences say {numeric}");
    }
}

#[test]
fn central_differences() {
    let (rows, width, vocab) = (3, 4, 6);
    let hidden = matrix(&numbers(rows * width, 5, 1.0), rows, width, DType::F64);
    let head = matrix(&numbers(vocab * width, 6, 1.0), vocab, width, DType::F64);
    // The second row names an id twice.
    let chosen: [[u32; 3]; 3] = [[0, 5, 2], [4, 4, 1], [3, 0, 2]];
    let chosen = Tensor::new(&chosen, &Device::Cpu).unwrap();
    let f = |hidden: &Var, head: &Var| {
        of_support(&linear_support_logprobs(hidden, head, &chosen, 0.8).unwrap(), 7)
    };
    assert_gradient("hidden", &hidden, |hidden| f(hidden, &head));
    assert_gradient("head", &head, |head| f(&hidden, head));

    let teacher_hidden = matrix(&numbers(rows * 2, 9, 1.0), rows, 2, DType::F64);
    let teacher_head = matrix(&numbers(vocab * 2, 10, 1.0), vocab, 2, DType::F64);
    let teacher = Projection::new(&teacher_hidden, &teacher_head);
    let targets = ids(&[0, 5, 2]);
    let f = |hidden: &Var, head: &Var| {
        let student = Projection::new(hidden, head);
        of_distance(&linear_total_variation(student, teacher, &targets, 1.3).unwrap(), 11)
    };
    assert_gradient("hidden", &hidden, |hidden| f(hidden, &head));
    assert_gradient("head", &head, |head| f(&hidden, head));
}

#[test]
fn the_likeliest_ids_have_the_log_probs_that_a_row_query_gives() {
    let (rows, width, vocab, k) = (5, 3, 40, 4);
    let hidden = matrix(&numbers(rows * width, 1, 2.0), rows, width, DType::F32);
    let head = matrix(&numbers(vocab * width, 2, 2.0), vocab, width, DType::F32);
    let query = RowQuery { temperature: 0.7, ids: &[], top: k, rank: false };
    let answers = linear_row_logprobs(&hidden, &head, &vec![query; rows]).unwrap();
    let tops: Vec<(u32, f32)> = answers.into_iter().flat_map(|answer| answer.top).collect();
    let chosen: Vec<u32> = tops.iter().map(|(id, _)| *id).collect();
    let chosen = Tensor::from_vec(chosen, (rows, k), &Device::Cpu).unwrap();
    let got = linear_support_logprobs(&hidden, &head, &chosen, 0.7).unwrap().logprobs;
    let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(got, tops.iter().map(|(_, logprob)| *logprob).collect::<Vec<f32>>());
}

#[test]
fn nan_and_wrong_ids_do_not_pass_silently() {
    let head = matrix(&[1.0, 2.0, 3.0], 3, 1, DType::F64);
    let hidden = matrix(&[f64::NAN, 1.0], 2, 1, DType::F64);
    let fine = matrix(&[1.0, 1.0], 2, 1, DType::F64);
    let [student, teacher] = [&hidden, &fine].map(|hidden| Projection::new(hidden, &head));
    for (student, teacher) in [(student, teacher), (teacher, student)] {
        let out = linear_total_variation(student, teacher, &ids(&[0, 1]), 1.0).unwrap();
        let distance = host(&out.divergence);
        assert!(distance[0].is_nan() && !distance[1].is_nan(), "{distance:?}");
    }
    let chosen = Tensor::new(&[[0u32, 1], [2, 3]], &Device::Cpu).unwrap();
    let error = linear_support_logprobs(&fine, &head, &chosen, 1.0).unwrap_err().to_string();
    assert!(error.contains('3'), "{error}");
    let error = linear_support_logprobs(&fine, &head, &ids(&[0, 1]), 1.0).unwrap_err().to_string();
    assert!(error.contains("[2, K]"), "{error}");
}
