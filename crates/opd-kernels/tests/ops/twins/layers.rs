use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    HeadNorms, Heads, RotaryTable, Span, Spans, add_rms_norm, attention, attention_backward,
    reference, rms_norm, rms_norm_backward, rotate_heads, rotate_heads_backward, swiglu,
    swiglu_backward,
};
use proptest::prelude::*;

use super::{dtypes, exact, laid, layouts, near, twin_gradients};
use crate::ids;

const EPS: f64 = 1e-3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn norms(
        rows in 1usize..80, width in 1usize..50, dtype in dtypes(), layout in layouts(), seed in 1u64..99,
    ) {
        let [x, delta, dy] = [0, 1, 2].map(|i| exact(&[rows, width], 3 * seed + i));
        let weight = exact(&[width], seed + 400);
        let to = |t: &Tensor| laid(t, dtype, layout);
        let (got_x, got_weight) = (to(&x), to(&weight));
        let want = reference::rms_norm(&x, &weight, EPS).unwrap();
        // One value of nearly 0 alone in its row is divided by the root of eps.
        near(&rms_norm(&got_x, &got_weight, EPS).unwrap(), &want, 1.0)?;
        let (sum, normed) = add_rms_norm(&got_x, &to(&delta), &got_weight, EPS).unwrap();
        near(&sum, &(&x + &delta).unwrap(), 1.0)?;
        let sum = sum.to_dtype(DType::F64).unwrap();
        near(&normed, &reference::rms_norm(&sum, &weight, EPS).unwrap(), 1.0)?;
        let gradients = twin_gradients(&[&x, &weight], &dy, |of| {
            reference::rms_norm(&of[0], &of[1], EPS).unwrap()
        });
        let residual = to(&delta);
        let (dx, dweight) =
            rms_norm_backward(&got_x, &got_weight, &to(&dy), Some(&residual), EPS).unwrap();
        near(&dx, &(&gradients[0] + &delta).unwrap(), 40.0)?;
        near(&dweight, &gradients[1], 2.0 * rows as f64)?;
    }

    #[test]
    fn gates(
        rows in 1usize..80, width in 1usize..40, dtype in dtypes(), layout in layouts(), seed in 1u64..99,
    ) {
        let (x, dy) = (exact(&[rows, 2 * width], seed), exact(&[rows, width], seed + 100));
        let to = |t: &Tensor| laid(t, dtype, layout);
        near(&swiglu(&to(&x)).unwrap(), &reference::swiglu(&x).unwrap(), 1.0)?;
        let want = twin_gradients(&[&x], &dy, |of| reference::swiglu(&of[0]).unwrap());
        near(&swiglu_backward(&to(&x), &to(&dy)).unwrap(), &want[0], 1.0)?;
    }

    #[test]
    fn rotations(
        rows in 1usize..40, group in 1usize..4, kv_heads in 1usize..3, half in 1usize..6,
        normed: bool, dtype in dtypes(), layout in layouts(), seed in 1u64..99,
    ) {
        let heads = Heads { heads: group * kv_heads, kv_heads, head_dim: 2 * half };
        let dim = heads.head_dim;
        let (x, dy) = (
            exact(&[rows, heads.total() * dim], seed),
            exact(&[rows, heads.total(), dim], seed + 100),
        );
        let weights = [200, 300].map(|more| exact(&[dim], seed + more));
        let places: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 11).collect();
        let places = ids(&places);
        let frequencies: Vec<f64> = (0..half).map(|i| 0.3f64.powi(i as i32)).collect();
        let table = |dtype| RotaryTable::new(&frequencies, 11, dtype, &Device::Cpu).unwrap();
        // Angles are rounded to the table's dtype: the definition reads the rounded ones.
        let table = table(dtype);
        let wide = table.to_dtype(DType::F64).unwrap();
        let to = |t: &Tensor| laid(t, dtype, layout);
        let (x_at, query, key) = (to(&x), to(&weights[0]), to(&weights[1]));
        let norms = normed.then_some(HeadNorms { query: &query, key: &key, eps: EPS });
        let twin = |of: &[Tensor]| {
            let norms = normed.then_some(HeadNorms { query: &of[1], key: &of[2], eps: EPS });
            reference::rotate_heads(&of[0], heads, norms, &wide, &places).unwrap()
        };
        let got = rotate_heads(&x_at, heads, norms, &table, &places).unwrap();
        near(&got, &twin(&[x.clone(), weights[0].clone(), weights[1].clone()]), 2.0)?;
        let want = twin_gradients(&[&x, &weights[0], &weights[1]], &dy, twin);
        let got = rotate_heads_backward(&x_at, heads, norms, &table, &places, &to(&dy)).unwrap();
        near(&got.qkv, &want[0], 40.0)?;
        if let Some((query, key)) = got.norms {
            near(&query, &want[1], 4.0 * (rows * heads.heads) as f64)?;
            near(&key, &want[2], 4.0 * (rows * heads.kv_heads) as f64)?;
        }
    }

    #[test]
    fn attentions(
        prompt in 1usize..20, responses in prop::collection::vec(1usize..60, 0..4), gap in 0usize..3,
        group in 1usize..4, kv_heads in 1usize..3, dim in 1usize..20, dtype in dtypes(), seed in 1u64..99,
    ) {
        let heads = Heads { heads: group * kv_heads, kv_heads, head_dim: dim };
        let mut end = prompt + gap;
        let mut spans = vec![Span { queries: 0..prompt, prefix: 0..0, keys: 0..prompt }];
        for n in responses {
            // One that sees the prompt, one on its own.
            let prefix = if spans.len() % 2 == 1 { 0..prompt } else { 0..0 };
            spans.push(Span { queries: end..end + n, prefix, keys: end..end + n });
            end += n;
        }
        let spans = Spans::new(spans, end, end).unwrap();
        let qkv = exact(&[end, heads.total(), dim], seed);
        let dout = exact(&[end, heads.heads, dim], seed + 100);
        let parts = |qkv: &Tensor| {
            [(0, heads.heads), (heads.heads, kv_heads), (heads.heads + kv_heads, kv_heads)]
                .map(|(first, n)| qkv.narrow(1, first, n).unwrap())
        };
        let twin = |of: &[Tensor]| {
            let [q, k, v] = parts(&of[0]);
            reference::attention(&q, &k, &v, &spans).unwrap()
        };
        let stored = qkv.to_dtype(dtype).unwrap();
        let [q, k, v] = parts(&stored);
        let got = attention(&q, &k, &v, &spans).unwrap();
        let want = twin(std::slice::from_ref(&qkv));
        near(&got.out, &want.out, 1.0)?;
        near(&got.lse, &want.lse, 10.0)?;
        let want = twin_gradients(&[&qkv], &dout, |of| twin(of).out);
        let dout = dout.to_dtype(dtype).unwrap();
        let gradient = attention_backward(&stored, heads, &spans, &got, &dout).unwrap();
        near(&gradient, &want[0], 10.0 * dim as f64)?;
    }
}
