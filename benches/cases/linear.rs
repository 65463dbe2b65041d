use candle_core::{Result, Var};
use opd_kernels::{TokenOptions, linear_row_loss, linear_support_logprobs, linear_token_scores};

use crate::{
    Case, Size, Work,
    numbers::{ids, variable},
};

/// Ids of each token of `linear_support_logprobs`.
const SUPPORT: usize = 32;

pub(crate) const CASES: &[Case] = &[
    Case { name: "linear_token_logprobs/forward", bytes: once, prepare: forward },
    Case { name: "linear_token_logprobs/train", bytes: twice, prepare: train },
    Case { name: "linear_row_loss/train", bytes: twice, prepare: row_loss },
    Case { name: "linear_support_logprobs/train", bytes: twice, prepare: support },
];

fn once(size: &Size) -> usize {
    size.hidden_bytes() + size.head_bytes()
}

/// Operands read, gradients written.
fn twice(size: &Size) -> usize {
    2 * once(size)
}

/// Hidden states and head.
pub(crate) fn model(size: &Size, seed: u64) -> Result<(Var, Var)> {
    let hidden = variable(&[size.tokens(), size.width], seed, 1.0)?;
    Ok((hidden, variable(&[size.vocab, size.width], seed + 1, 0.1)?))
}

fn forward(size: &Size) -> Result<Work> {
    let ((hidden, head), ids) = (model(size, 1)?, ids(size, 1)?);
    let (hidden, head) = (hidden.into_inner().detach(), head.into_inner().detach());
    let options = TokenOptions::default();
    Ok(Box::new(move || Ok(linear_token_scores(&hidden, &head, &ids, &options).map(drop)?)))
}

fn train(size: &Size) -> Result<Work> {
    let ((hidden, head), ids) = (model(size, 1)?, ids(size, 1)?);
    Ok(Box::new(move || {
        let scores = linear_token_scores(&hidden, &head, &ids, &TokenOptions::default())?;
        scores.logprobs.sum_all()?.backward().map(drop)
    }))
}

/// The gradients are ready when the op returns.
fn row_loss(size: &Size) -> Result<Work> {
    let ((hidden, head), ids) = (model(size, 1)?, ids(size, 1)?);
    Ok(Box::new(move || {
        let out = linear_row_loss(&hidden, &head, &ids, 1.0, |_, row| row.logprobs.sum_all())?;
        std::hint::black_box((out.hidden_gradient, out.head_gradient));
        Ok(())
    }))
}

fn support(size: &Size) -> Result<Work> {
    let ((hidden, head), ids) = (model(size, 1)?, ids(size, SUPPORT)?);
    Ok(Box::new(move || {
        let scores = linear_support_logprobs(&hidden, &head, &ids, 1.0)?;
        scores.logprobs.sum_all()?.backward().map(drop)
    }))
}
