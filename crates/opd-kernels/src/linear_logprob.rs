use candle_core::Tensor;

use crate::{
    Head, Projection, Result, Softmax, TokenLogprobs, TokenOptions,
    linear_token_scores::of_projection,
};

const OP: &str = "linear_token_logprobs";

/// [`token_logprobs`](crate::token_logprobs) of `hidden head^T`, with a bias if the [`Head`] has one,
/// without ever writing the `[T, V]` logits: they exist for a part of rows and vocabulary at a time, and
/// backward computes them again.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, one dtype (f32, f64, bf16 or f16);
/// `ids` is `[T]` (u32); `softmax` is a temperature or a [`Softmax`] with a cap. Differentiable with
/// respect to `hidden`, `head` and its bias; the gradient of one that is not part of a graph is not
/// computed. Every sum has one order, whatever the parts and the number of threads.
///
/// [`linear_token_scores`](crate::linear_token_scores) is the form that computes what it is asked for.
///
/// Definition: [`reference::linear_token_logprobs`](crate::reference::linear_token_logprobs).
///
/// # Errors
///
/// As [`token_logprobs`](crate::token_logprobs).
pub fn linear_token_logprobs<'a>(
    hidden: &'a Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    softmax: impl Into<Softmax>,
) -> Result<TokenLogprobs> {
    let options = TokenOptions { softmax: softmax.into(), entropy: true, ..Default::default() };
    let (values, _) = of_projection(OP, Projection::new(hidden, head), ids, &options)?;
    TokenLogprobs::from_columns(&values)
}
