use candle_core::Tensor;

use crate::{
    Result, Softmax, TokenLogprobs,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView},
        part::Part,
        token_gradient::Further,
        token_rows::{STATISTICS, TokenRows},
    },
    gpu,
    known_gradients::loss_of_columns,
    logprob::{check_device, device_ids, matrix, token_ids, widened},
};

const OP: &str = "row_loss";

/// A loss of rows of logits, and its gradient where the logits were.
#[derive(Clone, Debug)]
pub struct LogitsLoss {
    /// The loss, a scalar; without a graph.
    pub loss: Tensor,
    /// What the model says of each token; without a graph.
    pub tokens: TokenLogprobs,
    /// `dL/dlogits` `[T, V]`.
    pub gradient: Tensor,
}

/// The loss of each row's own log-prob, log-sum-exp and entropy under `logits`, with the gradient
/// written over them: nothing of their size is allocated.
///
/// `logits` is `[T, V]`, given up: contiguous logits are replaced by their gradient, which every
/// tensor that shares their memory sees. Others, and bf16 and f16 on the CPU, are copied.
/// `ids` is `[T]` (u32), `softmax` is a temperature or a [`Softmax`] with a cap. `loss` gets what the
/// model says of the rows (`[T]` each) and returns a scalar that depends on these alone. Numbers are
/// those of [`token_logprobs`](crate::token_logprobs) and its backward, to the bit.
///
/// [`linear_row_loss`](crate::linear_row_loss) is the form without logits.
///
/// # Errors
///
/// As [`token_logprobs`](crate::token_logprobs), and what `loss` fails with; the logits are then as they
/// were.
pub fn row_loss(
    logits: Tensor,
    ids: &Tensor,
    softmax: impl Into<Softmax>,
    loss: impl FnOnce(&TokenLogprobs) -> candle_core::Result<Tensor>,
) -> Result<LogitsLoss> {
    check_device(OP, &logits)?;
    let softmax = softmax.into();
    softmax.check(OP)?;
    let (rows, width) = matrix(OP, "logits", &logits)?;
    let dtype = logits.dtype();
    let logits = logits.detach();
    if let Some(gpu) = gpu::of(&logits) {
        let (ids, logits) = (device_ids(&gpu, OP, ids, rows, width)?, logits.contiguous()?);
        let place = (&logits, &ids);
        let (columns, _) = gpu::score_rows::forward(&gpu, OP, place, (None, 0), softmax, true)?;
        let (loss, upstream) = loss_of_columns(&columns, loss)?;
        let statistics = (&columns, &upstream);
        gpu::score_rows::backward(&gpu, OP, place, None, statistics, &logits, softmax)?;
        let tokens = TokenLogprobs::from_columns(&columns)?;
        return Ok(LogitsLoss { loss, tokens, gradient: logits });
    }
    let logits = widened(&logits)?.unwrap_or(logits).contiguous()?;
    by_dtype!(OP, logits, T => {
        let ids = token_ids(OP, ids, rows, width)?;
        let rows = TokenRows { ids: &ids, width, softmax, entropy: true };
        let mut columns = Columns::<T, STATISTICS>::new(ids.len());
        rows.forward(&mut columns, 0, &cpu::view::<T>(OP, &logits)?);
        let columns = columns.into_tensor()?;
        let (loss, upstream) = loss_of_columns(&columns, loss)?;
        {
            let (saved, upstream) = (cpu::view(OP, &columns)?, cpu::view(OP, &upstream)?);
            let statistics = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            cpu::update(OP, &logits, |values: &mut [T]| {
                let part = Part::of_rows(0..ids.len(), width);
                rows.backward(values, &part, None, statistics, Further::NONE);
                Ok(())
            })?;
        }
        let tokens = TokenLogprobs::from_columns(&columns)?;
        Ok(LogitsLoss { loss, tokens, gradient: logits.to_dtype(dtype)? })
    })
}
