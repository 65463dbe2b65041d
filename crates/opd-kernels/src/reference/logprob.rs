use candle_core::{D, DType, Tensor};

use crate::{Head, Result, Softmax, TokenLogprobs, TokenOptions, TokenScores, TopTokens};

/// `log softmax(cap(logits) / temperature)` over the last dimension, and the log-sum-exp.
///
/// `logits` is `[T, V]`; the results are `[T, V]` and `[T, 1]`.
///
/// # Errors
///
/// If candle fails.
pub fn log_softmax(logits: &Tensor, softmax: impl Into<Softmax>) -> Result<(Tensor, Tensor)> {
    let Softmax { temperature, soft_cap } = softmax.into();
    let z = match soft_cap {
        None => (logits / temperature)?,
        Some(cap) => ((logits / cap)?.tanh()? * (cap / temperature))?,
    };
    let max = z.max_keepdim(D::Minus1)?.detach(); // [T, 1]
    let sum = z.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    let lse = (sum.log()? + max)?;
    Ok((z.broadcast_sub(&lse)?, lse))
}

/// Definition of [`token_scores`](crate::token_scores).
///
/// # Errors
///
/// If candle fails.
pub fn token_scores(
    logits: &Tensor,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> Result<TokenScores> {
    let &TokenOptions { softmax, entropy, argmax, top_k, named } = options;
    let (log_p, lse) = log_softmax(logits, softmax)?;
    let entropy_of = || (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg();
    // Largest first; the sort is stable, so of equal ones the lowest id is first.
    let sorted = likeliest(logits, top_k.max(usize::from(argmax)))?;
    let top = || {
        let ids = sorted.narrow(1, 0, top_k)?.contiguous()?;
        Ok::<_, candle_core::Error>(TopTokens { logprobs: log_p.gather(&ids, 1)?, ids })
    };
    Ok(TokenScores {
        logprobs: log_p.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?,
        lse: lse.squeeze(1)?,
        entropy: entropy.then(entropy_of).transpose()?,
        argmax: argmax.then(|| sorted.get_on_dim(1, 0)?.contiguous()).transpose()?,
        top: (top_k > 0).then(top).transpose()?,
        named: named.map(|named| log_p.gather(&named.contiguous()?, 1)).transpose()?,
    })
}

/// Ids `[T, k]` of the largest logits of each row.
fn likeliest(logits: &Tensor, k: usize) -> Result<Tensor> {
    let mut ids = Vec::new();
    for row in logits.to_dtype(DType::F64)?.to_vec2::<f64>()? {
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        // -0 ties with 0.
        let logit = |id: u32| row[id as usize] + 0.0;
        order.sort_by(|a, b| logit(*b).total_cmp(&logit(*a)));
        ids.extend(order.into_iter().take(k));
    }
    Ok(Tensor::from_vec(ids, (logits.dim(0)?, k), logits.device())?)
}

/// Definition of [`token_logprobs`](crate::token_logprobs).
///
/// # Errors
///
/// If candle fails.
pub fn token_logprobs(
    logits: &Tensor,
    ids: &Tensor,
    softmax: impl Into<Softmax>,
) -> Result<TokenLogprobs> {
    let (log_p, lse) = log_softmax(logits, softmax)?;
    Ok(TokenLogprobs {
        logprobs: log_p.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?,
        lse: lse.squeeze(1)?,
        entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    })
}

/// `hidden head^T`, and the bias if there is one: `[T, V]`.
///
/// # Errors
///
/// If candle fails.
pub fn logits<'a>(hidden: &Tensor, head: impl Into<Head<'a>>) -> Result<Tensor> {
    let Head { weight, bias, .. } = head.into();
    let products = hidden.matmul(&weight.to_tensor()?.t()?)?;
    Ok(match bias {
        Some(bias) => products.broadcast_add(bias)?,
        None => products,
    })
}

/// Definition of [`linear_token_scores`](crate::linear_token_scores).
///
/// # Errors
///
/// If candle fails.
pub fn linear_token_scores<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> Result<TokenScores> {
    token_scores(&logits(hidden, head)?, ids, options)
}

/// Definition of [`linear_token_logprobs`](crate::linear_token_logprobs).
///
/// # Errors
///
/// If candle fails.
pub fn linear_token_logprobs<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    softmax: impl Into<Softmax>,
) -> Result<TokenLogprobs> {
    token_logprobs(&logits(hidden, head)?, ids, softmax)
}
