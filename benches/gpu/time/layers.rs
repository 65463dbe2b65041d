use candle_core::{DType, Result, Tensor};
use opd_kernels::{
    AdamWStep, HeadNorms, Heads, RotaryTable, Spans, adamw_step, add_rms_norm,
    advantages_and_returns, attention, attention_backward, embedding, rms_norm_backward,
    rotate_heads, rotate_heads_backward, scatter_add_rows, sum_of_squares, swiglu, swiglu_backward,
    token_logprobs,
};

use super::{Clock, Floor, Sizes};
use crate::{
    memory::bytes,
    numbers::{ids, normal},
};

pub(super) fn all(clock: &Clock<'_>, sizes: Sizes) -> Result<()> {
    layers(clock, sizes)?;
    attentions(clock, sizes)?;
    updates(clock, sizes)
}

fn layers(clock: &Clock<'_>, Sizes { rows, vocab, width }: Sizes) -> Result<()> {
    let device = clock.device;
    let [x, delta, dy] = [1, 2, 3].map(|_| normal(device, &[rows, width], 1.0));
    let (x, delta, dy) = (x?, delta?, dy?);
    let one = bytes(std::slice::from_ref(&x)) as f64;
    let weight = normal(device, &[width], 1.0)?;
    clock.time("add_rms_norm", Floor::bytes(4.0 * one), 2 * one as usize, || {
        add_rms_norm(&x, &delta, &weight, 1e-6)?;
        Ok(())
    })?;
    clock.time("rms_norm_backward", Floor::bytes(4.0 * one), one as usize, || {
        rms_norm_backward(&x, &weight, &dy, Some(&delta), 1e-6)?;
        Ok(())
    })?;
    let (gate_up, dout) =
        (normal(device, &[rows, 6 * width], 2.0)?, normal(device, &[rows, 3 * width], 1.0)?);
    clock.time("swiglu", Floor::bytes(9.0 * one), 3 * one as usize, || {
        swiglu(&gate_up)?;
        Ok(())
    })?;
    clock.time("swiglu_backward", Floor::bytes(15.0 * one), 6 * one as usize, || {
        swiglu_backward(&gate_up, &dout)?;
        Ok(())
    })?;
    let heads = Heads { heads: width / 128, kv_heads: (width / 512).max(1), head_dim: 128 };
    let frequencies: Vec<f64> = (0..64).map(|i| 1e6f64.powf(-f64::from(i) / 64.0)).collect();
    let table = RotaryTable::new(&frequencies, rows, DType::BF16, device)?;
    let qkv = normal(device, &[rows, heads.total() * 128], 1.0)?;
    let dqkv = normal(device, &[rows, heads.total(), 128], 1.0)?;
    let norm = normal(device, &[128], 1.0)?;
    let norms = Some(HeadNorms { query: &norm, key: &norm, eps: 1e-6 });
    let positions = ids(rows, rows)?.to_device(device)?;
    let fused = bytes(std::slice::from_ref(&qkv)) as f64;
    clock.time("rotate_heads", Floor::bytes(2.0 * fused), fused as usize, || {
        rotate_heads(&qkv, heads, norms, &table, &positions)?;
        Ok(())
    })?;
    clock.time("rotate_heads_backward", Floor::bytes(3.0 * fused), fused as usize, || {
        rotate_heads_backward(&qkv, heads, norms, &table, &positions, &dqkv)?;
        Ok(())
    })?;
    let (words, tokens) =
        (normal(device, &[vocab, width], 1.0)?, ids(rows, vocab)?.to_device(device)?);
    clock.time("embedding", Floor::bytes(2.0 * one), one as usize, || {
        embedding(&words, &tokens)?;
        Ok(())
    })?;
    clock.time("scatter_add_rows", Floor::bytes(3.0 * one), 0, || {
        Ok(scatter_add_rows(&words, &tokens, &x)?)
    })?;
    // A kernel over the ids and a number that comes back: what every op that takes ids waits for.
    let narrow = normal(device, &[rows, 8], 1.0)?;
    let few = ids(rows, 8)?.to_device(device)?;
    clock.time(
        "token_logprobs of 8 columns: launches and the check of ids",
        Floor::default(),
        0,
        || {
            token_logprobs(&narrow, &few, 1.0)?;
            Ok(())
        },
    )
}

fn attentions(clock: &Clock<'_>, Sizes { rows, .. }: Sizes) -> Result<()> {
    for dim in [128, 256] {
        let heads = Heads { heads: 4096 / dim, kv_heads: 1024 / dim, head_dim: dim };
        let spans = Spans::causal(vec![rows / 8; 8]);
        let qkv = normal(clock.device, &[spans.n_queries(), heads.total(), dim], 1.0)?;
        let part = |first, n| qkv.narrow(1, first, n);
        let (q, k) = (part(0, heads.heads)?, part(heads.heads, heads.kv_heads)?);
        let v = part(heads.heads + heads.kv_heads, heads.kv_heads)?;
        let out = attention(&q, &k, &v, &spans)?;
        let dout = out.out.clone();
        let pairs = 8.0 * (rows as f64 / 8.0).powi(2) / 2.0 * 4096.0;
        let kept = bytes(&[out.out.clone(), out.lse.clone()]);
        let name = format!("attention forward, heads of {dim}");
        clock.time(&name, Floor::flops(4.0 * pairs), kept, || {
            attention(&q, &k, &v, &spans)?;
            Ok(())
        })?;
        let (name, kept) =
            (format!("attention backward, heads of {dim}"), bytes(std::slice::from_ref(&qkv)));
        clock.time(&name, Floor::flops(10.0 * pairs), kept, || {
            attention_backward(&qkv, heads, &spans, &out, &dout)?;
            Ok(())
        })?;
    }
    Ok(())
}

fn updates(clock: &Clock<'_>, Sizes { rows, width, .. }: Sizes) -> Result<()> {
    let device = clock.device;
    let n = width * width * 4;
    let one = || Tensor::randn(0f32, 0.1, n, device);
    let (p, g, m, v) = (one()?, one()?, one()?, one()?.sqr()?);
    let step = AdamWStep {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        weight_decay: 0.1,
        gradient_scale: 1.0,
        step: 10,
    };
    clock.time("adamw_step, f32", Floor::bytes(28.0 * n as f64), 0, || {
        Ok(adamw_step(&p, &g, &m, &v, &step)?)
    })?;
    clock.time("sum_of_squares, f32", Floor::bytes(4.0 * n as f64), 0, || {
        sum_of_squares(&g)?;
        Ok(())
    })?;
    let (row, tokens) = (rows / 16, 4096);
    let rewards = Tensor::randn(0f32, 1.0, row * tokens, device)?;
    let values = Tensor::randn(0f32, 1.0, row * tokens, device)?;
    let starts: Vec<usize> = (0..=row).map(|i| i * tokens).collect();
    let moved = 16.0 * (row * tokens) as f64;
    let kept = bytes(&[rewards.clone(), values.clone()]);
    clock.time("advantages_and_returns", Floor::bytes(moved), kept, || {
        advantages_and_returns(&rewards, &values, &starts, 0.99, 0.95)?;
        Ok(())
    })
}
