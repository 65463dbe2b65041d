use candle_core::{D, Tensor};

use crate::{AttentionOutput, HeadNorms, Heads, Result, RotaryTable, Spans};

/// Definition of [`rms_norm`](crate::rms_norm).
///
/// # Errors
///
/// If candle fails.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(weight)?)
}

/// Definition of [`add_rms_norm`](crate::add_rms_norm).
///
/// # Errors
///
/// If candle fails.
pub fn add_rms_norm(
    x: &Tensor,
    delta: &Tensor,
    weight: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let sum = (x + delta)?;
    let normed = rms_norm(&sum, weight, eps)?;
    Ok((sum, normed))
}

/// Definition of [`swiglu`](crate::swiglu).
///
/// # Errors
///
/// If candle fails.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let width = gate_up.dim(D::Minus1)? / 2;
    let half = |i| gate_up.narrow(D::Minus1, i * width, width)?.contiguous();
    Ok((half(0)?.silu()? * half(1)?)?)
}

/// Definition of [`linear`](crate::linear); its two gradients follow from it.
///
/// # Errors
///
/// If candle fails.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

/// Definition of [`embedding`](crate::embedding).
///
/// # Errors
///
/// If candle fails.
pub fn embedding(weight: &Tensor, ids: &Tensor) -> Result<Tensor> {
    Ok(weight.index_select(ids, 0)?)
}

/// Definition of [`scatter_add_rows`](crate::scatter_add_rows); `sums` stays as it is.
///
/// # Errors
///
/// If candle fails.
pub fn scatter_add_rows(sums: &Tensor, ids: &Tensor, rows: &Tensor) -> Result<Tensor> {
    Ok(sums.index_add(ids, rows, 0)?)
}

/// Definition of [`rotate_heads`](crate::rotate_heads).
///
/// # Errors
///
/// If candle fails.
pub fn rotate_heads(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<HeadNorms<'_>>,
    table: &RotaryTable,
    positions: &Tensor,
) -> Result<Tensor> {
    let (rows, half) = (qkv.dim(0)?, heads.head_dim / 2);
    let x = qkv.reshape((rows, heads.total(), heads.head_dim))?;
    let at = |angles: &Tensor| angles.index_select(positions, 0)?.unsqueeze(1); // [T, 1, dim / 2]
    let (cos, sin) = (at(table.cos())?, at(table.sin())?);
    let rotated = |first: usize, n: usize, norm: Option<&Tensor>| -> Result<Tensor> {
        let x = x.narrow(1, first, n)?.contiguous()?;
        let x = match (norm, norms) {
            (Some(weight), Some(norms)) => rms_norm(&x, weight, norms.eps)?,
            _ => x,
        };
        let (low, high) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
        let turned = |a: &Tensor, b: &Tensor| a.broadcast_mul(&cos)? + b.broadcast_mul(&sin)?;
        Ok(Tensor::cat(&[turned(&low, &high.neg()?)?, turned(&high, &low)?], 2)?)
    };
    let queries = rotated(0, heads.heads, norms.map(|norms| norms.query))?;
    let keys = rotated(heads.heads, heads.kv_heads, norms.map(|norms| norms.key))?;
    let values = x.narrow(1, heads.heads + heads.kv_heads, heads.kv_heads)?;
    Ok(Tensor::cat(&[queries, keys, values], 1)?)
}

/// Definition of [`attention`](crate::attention): all scores, those of keys that a query does not
/// see at negative infinity.
///
/// # Errors
///
/// If candle fails.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spans: &Spans) -> Result<AttentionOutput> {
    let (rows, heads, dim) = q.dims3()?;
    let n_keys = k.dim(0)?;
    // [heads, rows, dim], each key head once for every query head that reads it.
    let by_head = |x: &Tensor, n: usize| {
        let group = heads / x.dim(1)?;
        let x = x.transpose(0, 1)?.unsqueeze(1)?;
        x.broadcast_as((heads / group, group, n, dim))?.reshape((heads, n, dim))
    };
    let (q, k, v) = (by_head(q, rows)?, by_head(k, n_keys)?, by_head(v, n_keys)?);
    let (bias, sees_any) = visibility(spans, rows, n_keys);
    let on_device = |values: Vec<f64>, dims: (usize, usize)| {
        Tensor::from_vec(values, dims, q.device())?.to_dtype(q.dtype())
    };
    let (bias, sees_any) = (on_device(bias, (rows, n_keys))?, on_device(sees_any, (rows, 1))?);
    let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? / (dim as f64).sqrt())?;
    let scores = scores.broadcast_add(&bias)?; // [heads, Tq, Tk]
    let max = scores.max_keepdim(D::Minus1)?.detach();
    let sum = scores.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    let lse = (sum.log()? + max)?;
    let p = scores.broadcast_sub(&lse)?.exp()?;
    let out = p.matmul(&v)?.broadcast_mul(&sees_any)?;
    Ok(AttentionOutput {
        out: out.transpose(0, 1)?.contiguous()?,
        lse: lse.broadcast_mul(&sees_any)?.squeeze(2)?.t()?.contiguous()?,
    })
}

/// `[Tq, Tk]`: 0 where a query sees a key, else negative infinity; `[Tq]`: 1 where it sees any. A
/// query that sees none has a row of zeros, so that its softmax exists.
fn visibility(spans: &Spans, rows: usize, n_keys: usize) -> (Vec<f64>, Vec<f64>) {
    let mut bias = vec![f64::NEG_INFINITY; rows * n_keys];
    let mut sees_any = vec![0.0; rows];
    for span in spans.spans() {
        for (i, row) in span.queries.clone().enumerate() {
            let hidden = span.queries.len() - 1 - i;
            for key in span.prefix.clone().chain(span.keys.start..span.keys.end - hidden) {
                bias[row * n_keys + key] = 0.0;
            }
            sees_any[row] = 1.0;
        }
    }
    for (row, _) in sees_any.iter().enumerate().filter(|(_, any)| **any == 0.0) {
        bias[row * n_keys..][..n_keys].fill(0.0);
    }
    (bias, sees_any)
}

/// The gradients of `sum(out * dout)` in `inputs`, as candle's backward has them; zeros for one that
/// nothing depends on.
///
/// # Errors
///
/// If candle fails.
pub fn gradients(out: &Tensor, dout: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
    let dout = dout.to_dtype(out.dtype())?.detach();
    let store = (out * dout)?.sum_all()?.backward()?;
    let of = |input: &&Tensor| match store.get(input) {
        Some(gradient) => Ok(gradient.clone()),
        None => Ok(input.zeros_like()?),
    };
    inputs.iter().map(of).collect()
}
