use candle_core::{DType, Tensor, Var};
use opd_testkit::tensor;
use proptest::prelude::*;

use super::{DTYPES, agree, gradient, host, ids, matrix, unit, weighted};
use crate::{Error, TokenLogprobs, token_logprobs};

fn parts(out: &TokenLogprobs) -> Vec<Tensor> {
    vec![out.logprobs.clone(), out.lse.clone(), out.entropy.clone()]
}

fn with_gradient(logits: &Tensor, ids: &Tensor, temperature: f64) -> Vec<Tensor> {
    let out = token_logprobs(logits, ids, temperature).unwrap();
    let terms: Vec<Tensor> =
        parts(&out).iter().zip(40..).map(|(part, seed)| weighted(part, seed)).collect();
    let total = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap();
    let mut all = parts(&out);
    if !all[0].dims().contains(&0) {
        all.push(gradient(&total, logits));
    }
    all
}

#[test]
fn rows_of_all_widths_and_dtypes() {
    // One column; whole and broken packs; more than the threads of a block take at once.
    for (rows, width) in [(0, 7), (3, 1), (2, 5), (4, 8), (5, 33), (3, 320), (2, 1021), (1, 9000)] {
        for dtype in DTYPES {
            for (scale, temperature) in [(5.0, 1.0), (30.0, 0.7), (1e4, 2.0)] {
                let logits = matrix(rows, width, 7 * width as u64, scale, dtype);
                let ids = ids(rows, width, 3);
                let tolerance = unit(dtype);
                agree(tolerance, || with_gradient(&logits, &ids, temperature));
            }
        }
    }
}

/// Statistics are in f32 whatever the logits are.
#[test]
fn statistics_of_halves_are_not_rounded_to_halves() {
    for dtype in [DType::BF16, DType::F16] {
        let logits = matrix(3, 700, 5, 20.0, dtype);
        agree(2e-6, || parts(&token_logprobs(&logits, &ids(3, 700, 1), 0.9).unwrap()));
    }
}

#[test]
fn rows_that_do_not_start_at_a_multiple_of_16_bytes() {
    let logits = matrix(9, 37, 5, 4.0, DType::BF16);
    let part = logits.narrow(0, 1, 7).unwrap();
    agree(2e-6, || parts(&token_logprobs(&part, &ids(7, 37, 1), 1.0).unwrap()));
}

#[test]
fn infinite_nan_and_certain_rows() {
    const INFINITY: f64 = f64::INFINITY;
    let rows: [[f64; 5]; 8] = [
        [-INFINITY, 1.0, 2.0, -INFINITY, 0.0],
        [-INFINITY; 5],
        [1.0, f64::NAN, 2.0, 3.0, 4.0],
        [f64::NAN; 5],
        [0.0, INFINITY, 1.0, 2.0, 3.0],
        [1e4, 1e4, -1e4, 0.0, 1.0],
        [40.0, 0.0, 0.0, 0.0, 0.0],
        [-1e4, -1e4 + 1.0, -1e4 - 3.0, -INFINITY, -INFINITY],
    ];
    for dtype in [DType::F64, DType::F32] {
        let logits = Var::from_tensor(&tensor(rows.as_flattened(), (8, 5), dtype)).unwrap();
        for target in 0..5u32 {
            let ids = Tensor::from_vec(vec![target; 8], 8, logits.device()).unwrap();
            agree(1e-6, || with_gradient(&logits, &ids, 1.0));
        }
    }
}

#[test]
fn rows_without_a_gradient_are_not_read() {
    let mut rows = vec![0.5; 12];
    rows[3] = f64::NAN;
    let logits = Var::from_tensor(&tensor(&rows, (2, 6), DType::F32)).unwrap();
    agree(1e-6, || {
        let out = token_logprobs(&logits, &ids(2, 6, 1), 1.0).unwrap();
        let last = out.logprobs.narrow(0, 1, 1).unwrap().sum_all().unwrap();
        vec![gradient(&last, &logits)]
    });
}

#[test]
fn an_id_outside_the_vocabulary_is_named() {
    if host::library().is_err() {
        return;
    }
    let logits = matrix(700, 4, 1, 1.0, DType::F32);
    for place in [0, 513, 699] {
        let mut list = vec![3u32; 700];
        list[place] = 4;
        list[699] = 9;
        let ids = Tensor::from_vec(list, 700, logits.device()).unwrap();
        let error = host::run(false, || token_logprobs(&logits, &ids, 1.0).unwrap_err());
        let Error::TokenId { position, id, vocab, .. } = error else { panic!("{error}") };
        let want = if place == 699 { 9 } else { 4 };
        assert_eq!((position, id, vocab), (place, want, 4));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        rows in 0usize..7, width in 1usize..700, seed in 0u64..999, scale in 0.0f64..60.0,
        temperature in 0.2f64..3.0, dtype in 0usize..4, skip in 0usize..3,
    ) {
        let dtype = DTYPES[dtype];
        let all = matrix(rows + skip, width, seed, scale, dtype);
        let logits = Var::from_tensor(&all.narrow(0, skip, rows).unwrap()).unwrap();
        let ids = ids(rows, width, seed);
        agree(unit(dtype), || with_gradient(&logits, &ids, temperature));
    }
}
