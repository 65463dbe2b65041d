//! Messages say the op, the tensor, what was expected and what came.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    AdamWStep, AttentionOutput, Error, HeadNorms, Heads, Result, RotaryTable, Span, Spans,
    adamw_step, adamw_step_with_copy, add_assign, add_rms_norm, attention, attention_backward,
    embedding, rms_norm, rms_norm_backward, rotate_heads, rotate_heads_backward, scatter_add_rows,
    sum_of_squares, swiglu, swiglu_as, swiglu_backward, write_rows,
};

use super::ids;

fn zeros(dims: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros(dims, dtype, &Device::Cpu).unwrap()
}

fn f32s(dims: &[usize]) -> Tensor {
    zeros(dims, DType::F32)
}

#[track_caller]
fn refuses<T: std::fmt::Debug>(result: Result<T>, message: &str) {
    let error = result.unwrap_err();
    assert!(!matches!(error, Error::Candle(_)), "candle's own: {error}");
    assert_eq!(error.to_string(), message);
}

#[test]
fn norms_and_activations() {
    let (x, w) = (f32s(&[2, 4]), f32s(&[4]));
    refuses(rms_norm(&x, &f32s(&[3]), 1e-6), "rms_norm: weight must be [H] = [4], got [3]");
    refuses(rms_norm(&f32s(&[]), &w, 1e-6), "rms_norm: x must be at least [width], got []");
    let bytes = |dims: &[usize]| zeros(dims, DType::U8);
    refuses(rms_norm(&bytes(&[2, 4]), &bytes(&[4]), 1e-6), "rms_norm: x is U8; convert it to f32");
    refuses(
        rms_norm(&x, &zeros(&[4], DType::F64), 1e-6),
        "rms_norm: weight is F64; give all tensors one dtype",
    );
    refuses(
        add_rms_norm(&x, &f32s(&[3, 4]), &w, 1e-6),
        "rms_norm: delta must be the shape of x = [2, 4], got [3, 4]",
    );
    refuses(
        rms_norm_backward(&x, &w, &f32s(&[8]), None, 1e-6),
        "rms_norm: dy must be the shape of x = [2, 4], got [8]",
    );
    refuses(
        rms_norm_backward(&x, &w, &x, Some(&f32s(&[4, 2])), 1e-6),
        "rms_norm: residual must be the shape of x = [2, 4], got [4, 2]",
    );
    refuses(
        rms_norm_backward(&x, &w, &x, Some(&zeros(&[2, 4], DType::F64)), 1e-6),
        "rms_norm: residual is F64; give all tensors one dtype",
    );
    refuses(swiglu(&f32s(&[2, 5])), "swiglu: gate_up must be [T, 2F], got [2, 5]");
    refuses(swiglu_backward(&x, &x), "swiglu: dy must be [T, F] = [2, 2], got [2, 4]");
    refuses(
        swiglu_as(&zeros(&[2, 4], DType::BF16), DType::F16),
        "swiglu: result is F16; give all tensors one dtype",
    );
}

#[test]
fn rotation() {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 4 };
    let table = RotaryTable::new(&[1.0, 0.1], 8, DType::F32, &Device::Cpu).unwrap();
    let (qkv, at) = (f32s(&[2, 16]), ids(&[0, 7]));
    let rotate = |qkv: &Tensor, heads, at: &Tensor| rotate_heads(qkv, heads, None, &table, at);
    refuses(
        rotate(&f32s(&[2, 15]), heads, &at),
        "rotate_heads: qkv must be [T, total * head_dim] = [2, 16], got [2, 15]",
    );
    refuses(
        rotate(&qkv, Heads { head_dim: 3, ..heads }, &at),
        "rotate_heads: head_dim must be even and above 0, got 3",
    );
    refuses(
        rotate(&qkv, Heads { kv_heads: 0, ..heads }, &at),
        "rotate_heads: heads must be a multiple of kv_heads, which is above 0, got 2",
    );
    refuses(
        rotate(&f32s(&[2, 8]), Heads { head_dim: 2, ..heads }, &at),
        "rotate_heads: width of the rotary table must be head_dim / 2, got 2",
    );
    refuses(
        rotate(&qkv, heads, &ids(&[0, 1, 2])),
        "rotate_heads: positions must be [T] = [2], got [3]",
    );
    refuses(
        rotate(&qkv, heads, &ids(&[0, 8])),
        "rotate_heads: position 8 (entry 1) does not exist; there are 8",
    );
    refuses(rotate(&qkv, heads, &f32s(&[2])), "rotate_heads: positions is F32; convert it to u32");
    refuses(
        rotate(&zeros(&[2, 16], DType::F64), heads, &at),
        "rotate_heads: rotary table is F32; give all tensors one dtype",
    );
    let (query, key) = (f32s(&[4]), f32s(&[5]));
    let norms = Some(HeadNorms { query: &query, key: &key, eps: 1e-6 });
    refuses(
        rotate_heads(&qkv, heads, norms, &table, &at),
        "rotate_heads: key norm must be [head_dim] = [4], got [5]",
    );
    refuses(
        rotate_heads_backward(&qkv, heads, None, &table, &at, &qkv),
        "rotate_heads: dy must be [T, total, head_dim] = [2, 4, 4], got [2, 16]",
    );
}

#[test]
fn attention_shapes() {
    let spans = Spans::causal([2, 1]);
    let (q, k) = (f32s(&[3, 2, 4]), f32s(&[3, 1, 4]));
    refuses(
        attention(&f32s(&[3, 3, 4]), &f32s(&[3, 2, 4]), &k, &spans),
        "attention: query heads must be a multiple of the key heads, which are above 0, got 3",
    );
    refuses(
        attention(&f32s(&[4, 2, 4]), &k, &k, &spans),
        "attention: q must be [Tq, heads, head_dim] = [3, 2, 4], got [4, 2, 4]",
    );
    refuses(
        attention(&q, &f32s(&[2, 1, 4]), &k, &spans),
        "attention: k must be [Tk, kv_heads, head_dim] = [3, 1, 4], got [2, 1, 4]",
    );
    refuses(
        attention(&q, &k, &zeros(&[3, 1, 4], DType::F64), &spans),
        "attention: v is F64; give all tensors one dtype",
    );
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 4 };
    let output = attention(&q, &k, &k, &spans).unwrap();
    let back =
        |qkv: &Tensor, heads, output, dout| attention_backward(qkv, heads, &spans, output, dout);
    refuses(
        back(&f32s(&[3, 5, 4]), heads, &output, &q),
        "attention: qkv must be [T, total, head_dim] = [3, 4, 4], got [3, 5, 4]",
    );
    refuses(
        back(&f32s(&[3, 7, 4]), Heads { heads: 3, kv_heads: 2, head_dim: 4 }, &output, &q),
        "attention: query heads must be a multiple of the key heads, which are above 0, got 3",
    );
    let short = AttentionOutput { lse: f32s(&[1]), ..output.clone() };
    refuses(
        back(&f32s(&[3, 4, 4]), heads, &short, &q),
        "attention: lse must be [T, heads] = [3, 2], got [1]",
    );
}

#[test]
fn spans() {
    let span = |queries: Range<usize>, prefix, keys| Span { queries, prefix, keys };
    let of = |spans: &[Span]| Spans::new(spans.to_vec(), 4, 6);
    refuses(
        of(&[span(2..5, 0..0, 0..3)]),
        "attention: end of a span's queries must be within the query rows, got 5",
    );
    refuses(
        of(&[span(0..2, 0..0, 5..7)]),
        "attention: end of a span's keys must be within the key rows, got 7",
    );
    refuses(
        of(&[span(0..2, 6..9, 0..2)]),
        "attention: end of a span's keys must be within the key rows, got 9",
    );
    refuses(
        of(&[span(0..3, 0..2, 2..4)]),
        "attention: keys of a span must be at least its queries, got 2",
    );
    refuses(
        of(&[span(1..3, 0..0, 0..2), span(0..2, 0..0, 2..4)]),
        "attention: first row of a span must be after the span before it, got 1",
    );
    refuses(
        of(&[span(0..1, 0..0, 1..4), span(1..2, 0..0, 3..5)]),
        "attention: first row of a span must be after the span before it, got 3",
    );
}

#[test]
fn tables_and_caches() {
    let table = f32s(&[5, 3]);
    refuses(
        embedding(&table, &ids(&[0, 4, 7, 9])),
        "embedding: token id 7 at position 2 is outside the vocabulary of 5",
    );
    refuses(embedding(&table, &f32s(&[2])), "embedding: ids is F32; convert it to u32");
    refuses(
        embedding(&f32s(&[5]), &ids(&[0])),
        "embedding: weight must be [V, H] with H above 0, got [5]",
    );
    refuses(
        scatter_add_rows(&table, &ids(&[0, 1]), &f32s(&[3, 3])),
        "embedding: rows must be [T, H] = [2, 3], got [3, 3]",
    );
    refuses(
        scatter_add_rows(&table, &ids(&[5]), &f32s(&[1, 3])),
        "embedding: token id 5 at position 0 is outside the vocabulary of 5",
    );
    refuses(
        scatter_add_rows(&table, &ids(&[0; 5]), &table),
        "embedding: sums and rows share their storage; give rows a copy",
    );
    refuses(
        write_rows(&table, &[1, 5], &f32s(&[2, 3])),
        "write_rows: cache row 5 (entry 1) does not exist; there are 5",
    );
    refuses(
        write_rows(&table, &[1], &f32s(&[2, 3])),
        "write_rows: source must be [rows.len(), ..] with the cache's row shape = [1, 3], got [2, 3]",
    );
    refuses(
        write_rows(&table, &[1], &zeros(&[1, 3], DType::F64)),
        "write_rows: source is F64; give all tensors one dtype",
    );
    refuses(
        write_rows(&table, &[1], &table.narrow(0, 3, 1).unwrap()),
        "write_rows: cache and source share their storage; give source a copy",
    );
}

#[test]
fn optimizer() {
    let settings = AdamWStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        gradient_scale: 1.0,
        step: 1,
    };
    let [p, g, m, v] = [(); 4].map(|()| f32s(&[2, 3]));
    refuses(
        adamw_step(&p, &g, &m, &v, &AdamWStep { step: 0, ..settings }),
        "adamw: step must be at least 1, got 0",
    );
    refuses(
        adamw_step(&p, &f32s(&[6]), &m, &v, &settings),
        "adamw: gradient must be the parameter's shape = [2, 3], got [6]",
    );
    refuses(
        adamw_step(&p, &g, &m, &zeros(&[2, 3], DType::F64), &settings),
        "adamw: second_moment is F64; give all tensors one dtype",
    );
    refuses(
        adamw_step(&p, &g, &m, &m, &settings),
        "adamw: first_moment and second_moment share their storage; give second_moment a copy",
    );
    refuses(
        adamw_step(&p, &p, &m, &v, &settings),
        "adamw: parameter and gradient share their storage; give gradient a copy",
    );
    refuses(
        adamw_step(&zeros(&[2, 3], DType::F64), &zeros(&[2, 3], DType::F16), &m, &v, &settings),
        "adamw: gradient is F16; give all tensors one dtype",
    );
    let copied = |copy: &Tensor| adamw_step_with_copy(&p, &g, &m, &v, copy, &settings);
    refuses(
        copied(&f32s(&[2, 3])),
        "adamw: copy is F32; a copy of the parameter is in bf16 or f16",
    );
    refuses(
        copied(&zeros(&[3, 2], DType::BF16)),
        "adamw: copy must be the parameter's shape = [2, 3], got [3, 2]",
    );
    refuses(
        add_assign(&p, &p),
        "add_assign: sums and values share their storage; give values a copy",
    );
    refuses(
        add_assign(&p, &f32s(&[3])),
        "add_assign: values must be the shape of the sums = [2, 3], got [3]",
    );
    refuses(
        sum_of_squares(&zeros(&[2], DType::U8)),
        "sum_of_squares: tensor is U8; convert it to f32",
    );
}
