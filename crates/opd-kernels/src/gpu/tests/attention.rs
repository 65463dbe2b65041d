use std::ops::Range;

use candle_core::{DType, Tensor};
use proptest::prelude::*;

use super::{agree, matrix};
use crate::{AttentionOutput, Heads, Span, Spans, attention, attention_backward};

fn span(prefix: Range<usize>, rows: Range<usize>) -> Span {
    Span { queries: rows.clone(), prefix, keys: rows }
}

/// Values and gradient of fused rows.
fn all(qkv: &Tensor, heads: Heads, spans: &Spans, dout: &Tensor) -> Vec<Tensor> {
    let Heads { heads: n, kv_heads, .. } = heads;
    let part = |first, len| qkv.narrow(1, first, len).unwrap();
    let (q, k, v) = (part(0, n), part(n, kv_heads), part(n + kv_heads, kv_heads));
    let output = attention(&q, &k, &v, spans).unwrap();
    let gradient = attention_backward(qkv, heads, spans, &output, dout).unwrap();
    let AttentionOutput { out, lse } = output;
    vec![out, lse, gradient]
}

fn fused(rows: usize, heads: Heads, seed: u64, scale: f64, dtype: DType) -> Tensor {
    let (total, dim) = (heads.total(), heads.head_dim);
    let rows_of = matrix(rows, total * dim, seed, scale, dtype);
    rows_of.as_tensor().reshape((rows, total, dim)).unwrap()
}

fn dout(rows: usize, heads: Heads, dtype: DType) -> Tensor {
    let Heads { heads, head_dim, .. } = heads;
    matrix(rows, heads * head_dim, 9, 1.0, dtype)
        .as_tensor()
        .reshape((rows, heads, head_dim))
        .unwrap()
}

#[test]
fn shared_prompts_ragged_rows_and_gaps() {
    let spans = vec![
        span(0..3, 5..6),
        span(0..0, 0..3),
        span(0..3, 3..5),
        span(0..0, 6..7),
        span(7..9, 9..10),
        span(1..4, 13..15),
        span(0..13, 15..60),
        span(58..60, 60..61),
    ];
    let spans = Spans::new(spans, 62, 62).unwrap();
    for (n, kv_heads, head_dim) in [(4, 2, 6), (3, 1, 40), (1, 1, 1), (8, 1, 2)] {
        let heads = Heads { heads: n, kv_heads, head_dim };
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let qkv = fused(62, heads, 1, 3.0, dtype);
            agree(tolerance, || all(&qkv, heads, &spans, &dout(62, heads, dtype)));
        }
    }
}

#[test]
fn wide_heads_up_to_the_limit() {
    let spans = Spans::causal([3, 37]);
    for head_dim in [128, 129, 192, 256] {
        let heads = Heads { heads: 2, kv_heads: 1, head_dim };
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
            let qkv = fused(40, heads, 1, 2.0, dtype);
            agree(tolerance, || all(&qkv, heads, &spans, &dout(40, heads, dtype)));
        }
    }
    if super::host::library().is_err() {
        return;
    }
    let wide = fused(40, Heads { heads: 1, kv_heads: 1, head_dim: 257 }, 1, 1.0, DType::F32);
    let part = |head| wide.narrow(1, head, 1).unwrap();
    let refused = super::host::run(false, || attention(&part(0), &part(1), &part(2), &spans));
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("head_dim must be at most 256 on a GPU, got 257"), "{said}");
}

#[test]
fn halves_are_rounded_from_sums_in_f32() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
    let spans = Spans::causal([3, 0, 40, 1]);
    for (dtype, tolerance) in [(DType::BF16, 3e-2), (DType::F16, 4e-3)] {
        let qkv = fused(44, heads, 1, 1.5, dtype);
        let dout = dout(44, heads, dtype);
        agree(tolerance, || {
            let to = if super::host::current().is_some() { dtype } else { DType::F32 };
            let [qkv, dout] = [&qkv, &dout].map(|tensor| tensor.to_dtype(to).unwrap());
            all(&qkv, heads, &spans, &dout)
        });
    }
}

#[test]
fn far_scores_and_nan() {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 8 };
    let spans = Spans::causal([40, 5]);
    let qkv = fused(45, heads, 1, 100.0, DType::F32);
    agree(2e-3, || all(&qkv, heads, &spans, &dout(45, heads, DType::F32)));
    let mut values = super::values(&fused(45, heads, 1, 1.0, DType::F32));
    values[33 * 32 + 16] = f64::NAN;
    let qkv = opd_testkit::tensor(&values, (45, 4, 8), DType::F32);
    // The rows that see it are NaN, the others not.
    agree(1e-5, || all(&qkv, heads, &spans, &dout(45, heads, DType::F32))[..2].to_vec());
}

#[test]
fn new_rows_over_a_cache() {
    let cache = fused(70, Heads { heads: 0, kv_heads: 2, head_dim: 5 }, 2, 2.0, DType::F64);
    let (k, v) = (cache.narrow(1, 0, 2).unwrap(), cache.narrow(1, 2, 2).unwrap());
    let q = matrix(4, 20, 3, 2.0, DType::F64).reshape((4, 4, 5)).unwrap();
    let spans = vec![
        Span { queries: 0..1, prefix: 0..37, keys: 40..45 },
        Span { queries: 1..2, prefix: 0..7, keys: 50..51 },
        Span { queries: 3..4, prefix: 3..3, keys: 52..70 },
    ];
    let spans = Spans::new(spans, 4, 70).unwrap();
    agree(1e-12, || {
        let AttentionOutput { out, lse } = attention(&q, &k, &v, &spans).unwrap();
        vec![out, lse]
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_pattern(
        lengths in prop::collection::vec((1usize..50, 0usize..30, 0usize..20), 1..5),
        group in 1usize..4, kv_heads in 1usize..3, head_dim in 1usize..40, seed in 0u64..99,
    ) {
        let heads = Heads { heads: group * kv_heads, kv_heads, head_dim };
        let rows = 50 + lengths.iter().map(|(length, ..)| length).sum::<usize>();
        let mut start = 0;
        let spans = lengths.iter().map(|&(length, from, prefix)| {
            start += length;
            span(from..from + prefix, start - length..start)
        });
        let spans = Spans::new(spans.collect(), rows, rows).unwrap();
        let qkv = fused(rows, heads, seed, 2.0, DType::F64);
        agree(1e-11, || all(&qkv, heads, &spans, &dout(rows, heads, DType::F64)));
    }
}
