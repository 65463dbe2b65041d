use candle_core::{D, Tensor};

use crate::{Result, TokenLogprobs};

/// `log softmax(logits / temperature)` over the last dimension, and the log-sum-exp.
///
/// `logits` is `[T, V]`; the results are `[T, V]` and `[T, 1]`.
///
/// # Errors
///
/// If candle fails.
pub fn log_softmax(logits: &Tensor, temperature: f64) -> Result<(Tensor, Tensor)> {
    let z = (logits / temperature)?;
    let max = z.max_keepdim(D::Minus1)?.detach(); // [T, 1]
    let sum = z.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    let lse = (sum.log()? + max)?;
    Ok((z.broadcast_sub(&lse)?, lse))
}

/// Definition of [`token_logprobs`](crate::token_logprobs).
///
/// # Errors
///
/// If candle fails.
pub fn token_logprobs(logits: &Tensor, ids: &Tensor, temperature: f64) -> Result<TokenLogprobs> {
    let (log_p, lse) = log_softmax(logits, temperature)?;
    Ok(TokenLogprobs {
        logprobs: log_p.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?,
        lse: lse.squeeze(1)?,
        entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    })
}

/// Definition of [`linear_token_logprobs`](crate::linear_token_logprobs).
///
/// # Errors
///
/// If candle fails.
pub fn linear_token_logprobs(
    hidden: &Tensor,
    head: &Tensor,
    ids: &Tensor,
    temperature: f64,
) -> Result<TokenLogprobs> {
    token_logprobs(&hidden.matmul(&head.t()?)?, ids, temperature)
}
