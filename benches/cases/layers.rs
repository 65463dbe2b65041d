use candle_core::{DType, Device, Result, Tensor};
use opd_kernels::{
    RotaryTable, add_rms_norm, embedding, rms_norm, rms_norm_backward, rotate_heads,
    rotate_heads_backward, scatter_add_rows, swiglu, swiglu_backward,
};

use crate::{
    Case, Size, Work,
    numbers::{ids, tensor},
};

const EPS: f64 = 1e-6;

pub(crate) const CASES: &[Case] = &[
    Case { name: "rms_norm/forward", bytes: |size| 2 * size.hidden_bytes(), prepare: norm },
    Case { name: "rms_norm/train", bytes: |size| 5 * size.hidden_bytes(), prepare: norm_train },
    Case { name: "add_rms_norm/forward", bytes: |size| 4 * size.hidden_bytes(), prepare: add_norm },
    Case { name: "rotary/forward", bytes: |size| 2 * size.qkv_bytes(), prepare: rotary },
    Case { name: "rotary/train", bytes: |size| 5 * size.qkv_bytes(), prepare: rotary_train },
    Case { name: "swiglu/forward", bytes: |size| 3 * inner_bytes(size), prepare: gated },
    Case { name: "swiglu/train", bytes: |size| 8 * inner_bytes(size), prepare: gated_train },
    Case { name: "embedding/forward", bytes: |size| 2 * size.hidden_bytes(), prepare: embed },
    Case { name: "embedding/backward", bytes: |size| 3 * size.hidden_bytes(), prepare: scatter },
];

fn inner_bytes(size: &Size) -> usize {
    4 * size.tokens() * size.inner
}

/// Hidden states, another such, and the weight of a norm.
fn states(size: &Size) -> Result<(Tensor, Tensor, Tensor)> {
    let dims = [size.tokens(), size.width];
    Ok((tensor(&dims, 1, 1.0)?, tensor(&dims, 2, 1.0)?, tensor(&[size.width], 3, 1.0)?))
}

fn norm(size: &Size) -> Result<Work> {
    let (x, _, weight) = states(size)?;
    Ok(Box::new(move || Ok(rms_norm(&x, &weight, EPS).map(drop)?)))
}

fn norm_train(size: &Size) -> Result<Work> {
    let (x, dy, weight) = states(size)?;
    Ok(Box::new(move || {
        rms_norm(&x, &weight, EPS)?;
        Ok(rms_norm_backward(&x, &weight, &dy, None, EPS).map(drop)?)
    }))
}

fn add_norm(size: &Size) -> Result<Work> {
    let (x, delta, weight) = states(size)?;
    Ok(Box::new(move || Ok(add_rms_norm(&x, &delta, &weight, EPS).map(drop)?)))
}

/// Angles up to the longest row, and each token's position in its row.
fn positions(size: &Size) -> Result<(RotaryTable, Tensor)> {
    let dim = size.heads.head_dim;
    let frequencies: Vec<f64> =
        (0..dim / 2).map(|i| 1e4f64.powf(-2.0 * i as f64 / dim as f64)).collect();
    let longest = size.lengths.iter().copied().max().unwrap_or(0);
    let table = RotaryTable::new(&frequencies, longest, DType::F32, &Device::Cpu)?;
    let positions: Vec<u32> = size.lengths.iter().flat_map(|&length| 0..length as u32).collect();
    Ok((table, Tensor::from_vec(positions, size.tokens(), &Device::Cpu)?))
}

fn rotary(size: &Size) -> Result<Work> {
    let (heads, (table, positions)) = (size.heads, positions(size)?);
    let qkv = tensor(&[size.tokens(), heads.total() * heads.head_dim], 1, 1.0)?;
    Ok(Box::new(move || Ok(rotate_heads(&qkv, heads, None, &table, &positions).map(drop)?)))
}

fn rotary_train(size: &Size) -> Result<Work> {
    let (heads, (table, positions)) = (size.heads, positions(size)?);
    let qkv = tensor(&[size.tokens(), heads.total() * heads.head_dim], 1, 1.0)?;
    let dy = tensor(&[size.tokens(), heads.total(), heads.head_dim], 2, 1.0)?;
    Ok(Box::new(move || {
        rotate_heads(&qkv, heads, None, &table, &positions)?;
        Ok(rotate_heads_backward(&qkv, heads, None, &table, &positions, &dy).map(drop)?)
    }))
}

fn gated(size: &Size) -> Result<Work> {
    let gate_up = tensor(&[size.tokens(), 2 * size.inner], 1, 2.0)?;
    Ok(Box::new(move || Ok(swiglu(&gate_up).map(drop)?)))
}

fn gated_train(size: &Size) -> Result<Work> {
    let gate_up = tensor(&[size.tokens(), 2 * size.inner], 1, 2.0)?;
    let dy = tensor(&[size.tokens(), size.inner], 2, 1.0)?;
    Ok(Box::new(move || {
        swiglu(&gate_up)?;
        Ok(swiglu_backward(&gate_up, &dy).map(drop)?)
    }))
}

fn embed(size: &Size) -> Result<Work> {
    let (table, ids) = (tensor(&[size.vocab, size.width], 1, 1.0)?, ids(size, 1)?);
    Ok(Box::new(move || Ok(embedding(&table, &ids).map(drop)?)))
}

/// Into a gradient that is there already, as in a training step.
fn scatter(size: &Size) -> Result<Work> {
    let (sums, ids) = (tensor(&[size.vocab, size.width], 1, 1.0)?, ids(size, 1)?);
    let rows = tensor(&[size.tokens(), size.width], 2, 1e-3)?;
    Ok(Box::new(move || Ok(scatter_add_rows(&sums, &ids, &rows)?)))
}
