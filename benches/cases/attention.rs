use candle_core::{Result, Tensor};
use opd_kernels::{AttentionOutput, Spans, attention, attention_backward};

use crate::{Case, Size, Work, numbers::tensor};

pub(crate) const CASES: &[Case] = &[
    Case { name: "attention/forward", bytes: forward_bytes, prepare: forward },
    Case { name: "attention/train", bytes: train_bytes, prepare: train },
];

fn out_bytes(size: &Size) -> usize {
    4 * size.tokens() * size.heads.heads * size.heads.head_dim
}

fn forward_bytes(size: &Size) -> usize {
    size.qkv_bytes() + out_bytes(size)
}

fn train_bytes(size: &Size) -> usize {
    3 * size.qkv_bytes() + 3 * out_bytes(size)
}

fn qkv(size: &Size) -> Result<Tensor> {
    tensor(&[size.tokens(), size.heads.total(), size.heads.head_dim], 1, 1.0)
}

fn attend(qkv: &Tensor, size: &Size, spans: &Spans) -> Result<AttentionOutput> {
    let (heads, kv_heads) = (size.heads.heads, size.heads.kv_heads);
    let q = qkv.narrow(1, 0, heads)?;
    let (k, v) = (qkv.narrow(1, heads, kv_heads)?, qkv.narrow(1, heads + kv_heads, kv_heads)?);
    Ok(attention(&q, &k, &v, spans)?)
}

fn forward(size: &Size) -> Result<Work> {
    let (size, qkv, spans) = (size.clone(), qkv(size)?, Spans::causal(size.lengths.clone()));
    Ok(Box::new(move || attend(&qkv, &size, &spans).map(drop)))
}

fn train(size: &Size) -> Result<Work> {
    let (size, qkv, spans) = (size.clone(), qkv(size)?, Spans::causal(size.lengths.clone()));
    let dout = tensor(&[size.tokens(), size.heads.heads, size.heads.head_dim], 2, 1.0)?;
    Ok(Box::new(move || {
        let out = attend(&qkv, &size, &spans)?;
        Ok(attention_backward(&qkv, size.heads, &spans, &out, &dout).map(drop)?)
    }))
}
