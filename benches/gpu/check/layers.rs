use candle_core::DType;
use opd_kernels::{
    HeadNorms, Heads, Products, RotaryTable, Spans, add_rms_norm, attention, attention_backward,
    embedding, linear, linear_acc, linear_grad_input, linear_grad_weight, linear_grad_weight_acc,
    linear_packed, rms_norm, rms_norm_backward, rotate_heads, rotate_heads_backward,
    scatter_add_rows, swiglu, swiglu_backward, write_rows,
};

use super::Work;

pub(super) const KERNELS: [(&str, Work); 8] = [
    ("rms_norm, add_rms_norm", |at| {
        let dims = [256, 4096];
        let [x, delta, dy] =
            [at.tensor(&dims, 1, 2.0)?, at.tensor(&dims, 2, 2.0)?, at.tensor(&dims, 3, 1.0)?];
        let weight = at.tensor(&[4096], 4, 1.0)?;
        let (sum, out) = add_rms_norm(&x, &delta, &weight, 1e-6)?;
        let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, Some(&delta), 1e-6)?;
        Ok(vec![rms_norm(&x, &weight, 1e-6)?, sum, out, dx, dweight])
    }),
    ("rotate_heads", |at| {
        let heads = Heads { heads: 16, kv_heads: 8, head_dim: 128 };
        let frequencies: Vec<f64> = (0..64).map(|i| 1e4f64.powf(-f64::from(i) / 64.0)).collect();
        let table = RotaryTable::new(&frequencies, 4096, at.dtype, at.device)?;
        let qkv = at.tensor(&[1024, 32 * 128], 1, 2.0)?;
        let dy = at.tensor(&[1024, 32, 128], 2, 1.0)?;
        let (query, key) = (at.tensor(&[128], 3, 1.0)?, at.tensor(&[128], 4, 1.0)?);
        let norms = Some(HeadNorms { query: &query, key: &key, eps: 1e-6 });
        let positions = at.ids(1024, 4096)?;
        let out = rotate_heads(&qkv, heads, norms, &table, &positions)?;
        let back = rotate_heads_backward(&qkv, heads, norms, &table, &positions, &dy)?;
        let (query, key) = back.norms.unwrap();
        Ok(vec![out, back.qkv, query, key])
    }),
    ("attention", |at| {
        let mut all = Vec::new();
        for dim in [128, 256] {
            let heads = Heads { heads: 8, kv_heads: 2, head_dim: dim };
            let spans = Spans::causal([700, 1, 333, 64]);
            let rows = spans.n_queries();
            let qkv = at.tensor(&[rows, heads.total(), dim], 1, 1.0)?;
            let (q, k, v) = (qkv.narrow(1, 0, 8)?, qkv.narrow(1, 8, 2)?, qkv.narrow(1, 10, 2)?);
            let out = attention(&q, &k, &v, &spans)?;
            let dout = at.tensor(&[rows, 8, dim], 2, 1.0)?;
            let gradient = attention_backward(&qkv, heads, &spans, &out, &dout)?;
            all.extend([out.out, out.lse, gradient]);
        }
        Ok(all)
    }),
    ("swiglu", |at| {
        let (gate_up, dy) = (at.tensor(&[512, 8192], 1, 6.0)?, at.tensor(&[512, 4096], 2, 1.0)?);
        Ok(vec![swiglu(&gate_up)?, swiglu_backward(&gate_up, &dy)?])
    }),
    ("embedding, scatter_add_rows", |at| {
        let table = at.tensor(&[4096, 512], 1, 1.0)?;
        // Some rows more than once.
        let (ids, rows) = (at.ids(3000, 2048)?, at.tensor(&[3000, 512], 2, 1.0)?);
        let sums = table.zeros_like()?;
        scatter_add_rows(&sums, &ids, &rows)?;
        Ok(vec![embedding(&table, &ids)?, sums])
    }),
    ("write_rows", |at| {
        let (cache, source) =
            (at.tensor(&[500, 4, 64], 1, 1.0)?, at.tensor(&[90, 12, 64], 2, 1.0)?);
        let cache = cache.copy()?;
        let rows: Vec<usize> = (0..90).map(|i| i * 37 % 500).collect();
        write_rows(&cache, &rows, &source.narrow(1, 4, 4)?)?;
        Ok(vec![cache])
    }),
    ("linear", |at| {
        let (x, w) = (at.tensor(&[300, 512], 1, 1.0)?, at.tensor(&[640, 512], 2, 0.1)?);
        let dy = at.tensor(&[300, 640], 3, 1.0)?;
        let sum = at.tensor(&[640, 512], 4, 1.0)?.copy()?;
        linear_grad_weight_acc(&dy, &x, &sum)?;
        let acc = at.tensor(&[300, 700], 5, 1.0)?.copy()?;
        linear_acc(&x, &w, &acc, 60)?;
        Ok(vec![
            linear(&x, &w)?,
            linear_grad_input(&dy, &w)?,
            linear_grad_weight(&dy, &x)?,
            sum,
            acc,
        ])
    }),
    ("linear of f32 rounded to bf16", |at| {
        let of = |dims, seed, scale| at.tensor(dims, seed, scale)?.to_dtype(DType::F32);
        let (x, w) = (of(&[300, 512], 1, 1.0)?, of(&[640, 512], 2, 0.1)?);
        let (dy, products) = (of(&[300, 640], 3, 1.0)?, Products::Bf16);
        let sum = of(&[640, 512], 4, 1.0)?.copy()?;
        products.grad_weight_acc(&dy, &x, &sum)?;
        let packed = linear_packed(&x, &products.pack(&w)?)?;
        Ok(vec![
            products.linear(&x, &w)?,
            products.grad_input(&dy, &w)?,
            products.grad_weight(&dy, &x)?,
            sum,
            packed,
        ])
    }),
];
