use candle_core::{DType, Tensor};

use crate::{
    Error, Result, Softmax, TokenOptions, cpu,
    gpu::{self, Gpu},
    shape,
    token_scores::of_logits,
};

const OP: &str = "token_logprobs";

/// What a model says of each token that was there; `[T]` each, nats.
#[derive(Clone, Debug)]
pub struct TokenLogprobs {
    /// `log softmax` at the token's id.
    pub logprobs: Tensor,
    /// Log of the sum of the exponentials of capped logits over the temperature.
    pub lse: Tensor,
    /// `-sum_v p_v log p_v`.
    pub entropy: Tensor,
}

impl TokenLogprobs {
    pub(crate) fn from_columns(columns: &Tensor) -> Result<Self> {
        let column = |i| columns.narrow(0, i, 1)?.squeeze(0);
        Ok(Self { logprobs: column(0)?, lse: column(1)?, entropy: column(2)? })
    }

    /// The same numbers without a graph.
    pub fn detach(&self) -> Self {
        Self {
            logprobs: self.logprobs.detach(),
            lse: self.lse.detach(),
            entropy: self.entropy.detach(),
        }
    }
}

/// Log-prob, log-sum-exp and entropy of the tokens `ids` under `logits`.
///
/// `logits` is `[T, V]` (f32, bf16 or f16; f64 on the CPU), `ids` is `[T]` (u32), `softmax` is a
/// temperature above 0 or a [`Softmax`] with a cap. One read of the logits forward; backward one
/// read and one write. All three outputs are in f32, or f64 for f64, and differentiable. A logit of
/// negative infinity is a token that cannot occur.
///
/// [`token_scores`](crate::token_scores) is the form that computes what it is asked for: without the
/// entropy it is faster. It has the formulas, and says what NaN and infinity do.
///
/// Definition: [`reference::token_logprobs`](crate::reference::token_logprobs).
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`], [`Error::TokenId`] naming the
/// position, [`Error::Setting`] for the temperature or the cap.
pub fn token_logprobs(
    logits: &Tensor,
    ids: &Tensor,
    softmax: impl Into<Softmax>,
) -> Result<TokenLogprobs> {
    let options = TokenOptions { softmax: softmax.into(), entropy: true, ..Default::default() };
    TokenLogprobs::from_columns(&of_logits(OP, logits, ids, &options)?.0)
}

/// The same values in f32, if the CPU has no kernel for their dtype but can widen it. Gradients
/// come back rounded to the tensor's own dtype.
pub(crate) fn widened(tensor: &Tensor) -> Result<Option<Tensor>> {
    match tensor.dtype() {
        DType::BF16 | DType::F16 => Ok(Some(tensor.to_dtype(DType::F32)?)),
        _ => Ok(None),
    }
}

pub(crate) fn check_device(op: &'static str, tensor: &Tensor) -> Result<()> {
    if tensor.device().is_cpu() || gpu::of(tensor).is_some() {
        return Ok(());
    }
    Err(Error::Device { op, device: format!("{:?}", tensor.device()) })
}

/// The ids of `rows` tokens, all below `vocab`, contiguous on their device.
pub(crate) fn device_ids(
    gpu: &Gpu,
    op: &'static str,
    ids: &Tensor,
    rows: usize,
    vocab: usize,
) -> Result<Tensor> {
    check_ids_tensor(op, ids, rows)?;
    let ids = ids.contiguous()?;
    gpu::check_ids(gpu, op, &ids, vocab)?;
    Ok(ids)
}

fn check_ids_tensor(op: &'static str, ids: &Tensor, rows: usize) -> Result<()> {
    shape::expect(op, "ids", ids, &[rows], "[T]")?;
    match ids.dtype() {
        DType::U32 => Ok(()),
        got => Err(Error::DType { op, what: "ids", got, remedy: "token ids are u32" }),
    }
}

pub(crate) fn check_temperature(op: &'static str, temperature: f64) -> Result<()> {
    Softmax::from(temperature).check(op)
}

/// Rows and width of a matrix.
pub(crate) fn matrix(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    tensor.dims2().map_err(|_| Error::Shape {
        op,
        what,
        expected: "a matrix".into(),
        got: tensor.dims().to_vec(),
    })
}

/// The ids of `rows` tokens, all below `vocab`.
pub(crate) fn token_ids(
    op: &'static str,
    ids: &Tensor,
    rows: usize,
    vocab: usize,
) -> Result<Vec<u32>> {
    check_ids_tensor(op, ids, rows)?;
    let ids = ids.to_vec1::<u32>()?;
    cpu::check_ids(op, &ids, vocab)?;
    Ok(ids)
}
