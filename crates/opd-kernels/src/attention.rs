use candle_core::{D, Tensor};

use crate::{
    Error, Result,
    cpu::{self, Element, Stored, attention::Strided, by_stored},
    gpu,
    rotary::Heads,
    shape,
    spans::Spans,
};

const OP: &str = "attention";

/// What [`attention`] computes.
#[derive(Clone, Debug)]
pub struct AttentionOutput {
    /// `[Tq, heads, head_dim]`.
    pub out: Tensor,
    /// `[Tq, heads]`: log-sum-exp of the scaled scores, which the backward needs.
    pub lse: Tensor,
}

/// Causal attention over a packed ragged batch; memory is linear in the number of tokens.
///
/// `q` is `[Tq, heads, head_dim]`, `k` and `v` are `[Tk, kv_heads, head_dim]`; their rows may
/// be strided (parts of a fused projection, or of a cache). Query head `h` reads key head
/// `h / (heads / kv_heads)`. Scores are divided by `sqrt(head_dim)`.
///
/// Rows that no span queries are 0. bf16 and f16 are computed in f32 and rounded once, at the end; their
/// `lse` is in f32. On a GPU `head_dim` is at most 256.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`] or [`Error::Device`]; [`Error::Setting`] for heads that do not fit each
/// other, or wider ones on a GPU.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spans: &Spans) -> Result<AttentionOutput> {
    let (rows, n_heads, head_dim) = q.dims3()?;
    let (n_keys, kv_heads, _) = k.dims3()?;
    let heads = Heads { heads: n_heads, kv_heads, head_dim };
    check_heads(heads)?;
    shape::expect(OP, "q", q, &[spans.n_queries(), n_heads, head_dim], "[Tq, heads, head_dim]")?;
    shape::expect(OP, "k", k, &[spans.n_keys(), kv_heads, head_dim], "[Tk, kv_heads, head_dim]")?;
    shape::expect(OP, "v", v, &[n_keys, kv_heads, head_dim], "[Tk, kv_heads, head_dim]")?;
    shape::same_dtype(OP, "k", k, q.dtype())?;
    shape::same_dtype(OP, "v", v, q.dtype())?;
    let (q, k, v) = (row_strided(q)?, row_strided(k)?, row_strided(v)?);
    if let Some(gpu) = gpu::of(&q) {
        let (out, lse) = gpu::attention::forward(&gpu, [&q, &k, &v], spans, heads)?;
        return Ok(AttentionOutput { out, lse });
    }
    by_stored!(OP, q, S => {
        let q_values = cpu::strided_view::<S>(OP, &q)?;
        let k_values = cpu::strided_view::<S>(OP, &k)?;
        let v_values = cpu::strided_view::<S>(OP, &v)?;
        let mut out = vec![S::default(); rows * n_heads * head_dim];
        let mut lse = vec![<S as Stored>::Wide::ZERO; rows * n_heads];
        let inputs = (strided(&q, &q_values), strided(&k, &k_values), strided(&v, &v_values));
        cpu::attention::forward(inputs, spans, heads, scale(head_dim), (&mut out, &mut lse));
        Ok(AttentionOutput {
            out: cpu::tensor(out, (rows, n_heads, head_dim))?,
            lse: cpu::tensor(lse, (rows, n_heads))?,
        })
    })
}

/// Gradient of [`attention`] with respect to fused rows `qkv` `[T, total, head_dim]` whose
/// parts were its `q`, `k` and `v`, from the gradient `dout` of its `out`.
///
/// # Errors
///
/// As [`attention`].
pub fn attention_backward(
    qkv: &Tensor,
    heads: Heads,
    spans: &Spans,
    output: &AttentionOutput,
    dout: &Tensor,
) -> Result<Tensor> {
    check_heads(heads)?;
    let (rows, dim) = (spans.n_queries(), heads.head_dim);
    shape::expect(OP, "qkv", qkv, &[spans.n_keys(), heads.total(), dim], "[T, total, head_dim]")?;
    shape::expect(OP, "qkv", qkv, &[rows, heads.total(), dim], "[T, total, head_dim]")?;
    shape::expect(OP, "dout", dout, &[rows, heads.heads, dim], "[T, heads, head_dim]")?;
    shape::expect(OP, "out", &output.out, dout.dims(), "[T, heads, head_dim]")?;
    shape::expect(OP, "lse", &output.lse, &[rows, heads.heads], "[T, heads]")?;
    for (what, tensor) in [("dout", dout), ("out", &output.out)] {
        shape::same_dtype(OP, what, tensor, qkv.dtype())?;
    }
    shape::same_dtype(OP, "lse", &output.lse, gpu::accumulator(qkv.dtype()))?;
    let (qkv, dout) = (qkv.contiguous()?, dout.contiguous()?);
    let lse = output.lse.contiguous()?;
    if let Some(gpu) = gpu::of(&qkv) {
        let out = output.out.contiguous()?;
        return gpu::attention::backward(&gpu, &qkv, heads, spans, [&out, &lse, &dout]);
    }
    by_stored!(OP, qkv, S => {
        let (input, dout) = (cpu::view::<S>(OP, &qkv)?, cpu::view::<S>(OP, &dout)?);
        let lse = cpu::view::<<S as Stored>::Wide>(OP, &lse)?;
        let mut dqkv = vec![S::default(); input.len()];
        cpu::attention::backward(&input, spans, heads, scale(dim), (&*lse, &*dout), &mut dqkv);
        cpu::tensor(dqkv, qkv.shape())
    })
}

fn check_heads(heads: Heads) -> Result<()> {
    if heads.kv_heads == 0 || !heads.heads.is_multiple_of(heads.kv_heads) {
        let (what, expected) = ("query heads", "a multiple of the key heads, which are above 0");
        return Err(Error::Setting { op: OP, what, expected, got: heads.heads as f64 });
    }
    Ok(())
}

fn scale<T: Element>(head_dim: usize) -> T {
    T::of(1.0 / (head_dim as f64).sqrt())
}

/// The tensor itself if each row's heads are contiguous, else a contiguous copy.
fn row_strided(tensor: &Tensor) -> Result<Tensor> {
    let dim = tensor.dim(D::Minus1)?;
    match tensor.stride() {
        [_, head, 1] if *head == dim => Ok(tensor.clone()),
        _ => Ok(tensor.contiguous()?),
    }
}

fn strided<'a, S>(tensor: &Tensor, values: &'a [S]) -> Strided<'a, S> {
    Strided { values, row_stride: tensor.stride()[0] }
}
