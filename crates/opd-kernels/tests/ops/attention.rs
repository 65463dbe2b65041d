use std::ops::Range;

use candle_core::{DType, Tensor};
use opd_kernels::{Heads, Span, Spans, attention, attention_backward};
use opd_testkit::{assert_close, assert_gradient, host, numbers, tensor};

use super::{t64, weighted};

const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_dim: 5 };

fn span(prefix: Range<usize>, rows: Range<usize>) -> Span {
    Span { queries: rows.clone(), prefix, keys: rows }
}

/// Rows that query row `row` sees, by the definition of [`Span`].
fn seen(spans: &[Span], row: usize) -> Vec<usize> {
    let Some(span) = spans.iter().find(|span| span.queries.contains(&row)) else {
        return Vec::new();
    };
    let hidden = span.queries.end - 1 - row;
    span.prefix.clone().chain(span.keys.start..span.keys.end - hidden).collect()
}

/// Softmax over the seen rows, written out: `out [Tq, heads, dim]` and `lse [Tq, heads]`.
fn dense(q: &Tensor, k: &Tensor, v: &Tensor, spans: &[Span]) -> (Vec<f64>, Vec<f64>) {
    let (n_queries, n_heads, dim) = q.dims3().unwrap();
    let kv_heads = k.dims()[1];
    let [q, k, v] = [q, k, v].map(host);
    let (mut out, mut all_lse) = (vec![0.0; q.len()], vec![0.0; n_queries * n_heads]);
    for row in 0..n_queries {
        let rows = seen(spans, row);
        for head in 0..n_heads {
            let query = &q[(row * n_heads + head) * dim..][..dim];
            let at = |key: usize| (key * kv_heads + head * kv_heads / n_heads) * dim;
            let score = |&key: &usize| {
                let dot: f64 = query.iter().zip(&k[at(key)..]).map(|(a, b)| a * b).sum();
                dot / (dim as f64).sqrt()
            };
            let scores: Vec<f64> = rows.iter().map(score).collect();
            let Some(max) = scores.iter().copied().reduce(f64::max) else { continue };
            let lse = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
            all_lse[row * n_heads + head] = lse;
            for (&key, score) in rows.iter().zip(scores) {
                for d in 0..dim {
                    out[(row * n_heads + head) * dim + d] += (score - lse).exp() * v[at(key) + d];
                }
            }
        }
    }
    (out, all_lse)
}

/// Queries, keys and values of fused rows, as views.
fn parts(qkv: &Tensor, heads: Heads) -> [Tensor; 3] {
    let Heads { heads, kv_heads, .. } = heads;
    [(0, heads), (heads, kv_heads), (heads + kv_heads, kv_heads)]
        .map(|(first, n)| qkv.narrow(1, first, n).unwrap())
}

/// A prompt, two responses to it (one of one token), a sequence of one token, a prompt with a
/// response that has a continuation of its own, one that reads two others' rows, a gap.
fn pattern(long: usize) -> (Vec<Span>, usize) {
    let spans = vec![
        span(0..3, 5..6),
        span(0..0, 0..3),
        span(0..3, 3..5),
        span(0..0, 6..7),
        span(0..0, 7..9),
        span(7..9, 9..10),
        span(9..10, 10..12),
        span(1..4, 13..15),
        span(0..0, 15..15 + long),
    ];
    (spans, 15 + long)
}

fn qkv(rows: usize, heads: Heads, scale: f64) -> Tensor {
    let n = rows * heads.total() * heads.head_dim;
    t64(&numbers(n, 1, scale), (rows, heads.total(), heads.head_dim))
}

#[test]
fn values_are_those_of_the_definition() {
    for head_dim in [1, 5, 16, 20] {
        for (n_heads, kv_heads) in [(4, 2), (3, 1), (2, 2)] {
            let heads = Heads { heads: n_heads, kv_heads, head_dim };
            let (list, rows) = pattern(50);
            let spans = Spans::new(list.clone(), rows, rows).unwrap();
            let qkv = qkv(rows, heads, 3.0);
            let [q, k, v] = parts(&qkv, heads);
            let (out, lse) = dense(&q, &k, &v, &list);
            for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 5e-6)] {
                let [q, k, v] = parts(&qkv.to_dtype(dtype).unwrap(), heads);
                let got = attention(&q, &k, &v, &spans).unwrap();
                assert_close(&host(&got.out), &out, tolerance);
                assert_close(&host(&got.lse), &lse, tolerance);
            }
        }
    }
}

#[test]
fn causal_spans_are_independent_sequences() {
    let spans = Spans::causal([3, 0, 1, 20]);
    let list = [span(0..0, 0..3), span(0..0, 3..4), span(0..0, 4..24)];
    let [q, k, v] = parts(&qkv(24, HEADS, 2.0), HEADS);
    let got = attention(&q, &k, &v, &spans).unwrap();
    assert_close(&host(&got.out), &dense(&q, &k, &v, &list).0, 1e-13);
}

#[test]
fn new_rows_see_a_cache_whose_rows_no_query_owns() {
    let cache = t64(&numbers(40 * 4 * 5, 2, 2.0), (40, 4, 5));
    let (k, v) = (cache.narrow(1, 0, 2).unwrap(), cache.narrow(1, 2, 2).unwrap());
    let q = t64(&numbers(4 * 4 * 5, 3, 2.0), (4, 4, 5));
    let list = vec![
        Span { queries: 0..1, prefix: 0..7, keys: 10..15 },
        Span { queries: 1..2, prefix: 0..7, keys: 20..21 },
        Span { queries: 3..4, prefix: 3..3, keys: 22..40 },
    ];
    let spans = Spans::new(list.clone(), 4, 40).unwrap();
    let got = attention(&q, &k, &v, &spans).unwrap();
    let (out, lse) = dense(&q, &k, &v, &list);
    assert_close(&host(&got.out), &out, 1e-13);
    assert_close(&host(&got.lse), &lse, 1e-13);
    assert_eq!(out[2 * 20..3 * 20], [0.0; 20]);
}

#[test]
fn far_scores_do_not_overflow() {
    let (list, rows) = pattern(20);
    let spans = Spans::new(list.clone(), rows, rows).unwrap();
    let qkv = qkv(rows, HEADS, 100.0);
    let [q, k, v] = parts(&qkv, HEADS);
    let got = attention(&q, &k, &v, &spans).unwrap();
    assert_close(&host(&got.out), &dense(&q, &k, &v, &list).0, 1e-9);
    let single = qkv.to_dtype(DType::F32).unwrap();
    let [q, k, v] = parts(&single, HEADS);
    let got = attention(&q, &k, &v, &spans).unwrap();
    let dout = tensor(&numbers(rows * 20, 4, 1.0), (rows, 4, 5), DType::F32);
    let gradient = attention_backward(&single, HEADS, &spans, &got, &dout).unwrap();
    assert!(host(&got.out).iter().chain(&host(&gradient)).all(|x| x.is_finite()));
}

#[test]
fn the_gradient_is_central_differences() {
    for (heads, long) in [(HEADS, 3), (Heads { heads: 2, kv_heads: 1, head_dim: 18 }, 19)] {
        let (list, rows) = pattern(long);
        let spans = Spans::new(list, rows, rows).unwrap();
        let dims = (rows, heads.total(), heads.head_dim);
        let x = host(&qkv(rows, heads, 1.5));
        let dout = numbers(rows * heads.heads * heads.head_dim, 5, 1.0);
        let forward = |x: &[f64]| {
            let [q, k, v] = parts(&t64(x, dims), heads);
            attention(&q, &k, &v, &spans).unwrap()
        };
        let upstream = t64(&dout, (rows, heads.heads, heads.head_dim));
        let gradient = attention_backward(&t64(&x, dims), heads, &spans, &forward(&x), &upstream);
        assert_gradient(&host(&gradient.unwrap()), &x, 1e-8, |x| weighted(&forward(x).out, &dout));
    }
}

/// Distinct copies of a prompt instead of one that is shared: the same bits.
#[test]
fn a_shared_prefix_has_the_bits_of_a_copy() {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 20 };
    let rows = tensor(&numbers(33 * 80, 1, 2.0), (33, 4, 20), DType::F32);
    let shared = vec![span(0..0, 0..21), span(0..21, 21..29), span(0..21, 29..33)];
    let copied = vec![span(0..0, 0..29), span(0..0, 29..54)];
    let order: Vec<u32> = (0..29).chain(0..21).chain(29..33).collect();
    let copy = rows.index_select(&super::ids(&order), 0).unwrap();
    let run = |rows: &Tensor, spans: Vec<Span>| {
        let n = rows.dims()[0];
        let [q, k, v] = parts(rows, heads);
        host(&attention(&q, &k, &v, &Spans::new(spans, n, n).unwrap()).unwrap().out)
    };
    let (shared, copied) = (run(&rows, shared), run(&copy, copied));
    assert_eq!(shared[..29 * 40], copied[..29 * 40]);
    assert_eq!(shared[29 * 40..], copied[50 * 40..]);
}

#[test]
fn no_rows_give_no_rows() {
    let empty = t64(&[], (0, 8, 5));
    let [q, k, v] = parts(&empty, HEADS);
    let spans = Spans::causal([]);
    let output = attention(&q, &k, &v, &spans).unwrap();
    assert_eq!((output.out.dims(), output.lse.dims()), (&[0, 4, 5][..], &[0, 4][..]));
    let gradient = attention_backward(&empty, HEADS, &spans, &output, &q).unwrap();
    assert_eq!(gradient.dims(), [0, 8, 5]);
}
