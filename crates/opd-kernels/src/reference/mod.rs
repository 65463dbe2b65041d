//! The kernels' readable definitions: plain candle, differentiable, with `[T, V]` temporaries.
//!
//! Tests compare every kernel with its namesake here. Logits must be finite.

mod cross_vocabulary;
mod divergence;
mod logprob;
mod support;

pub use self::{
    cross_vocabulary::linear_cross_vocabulary,
    divergence::{divergence, linear_divergence},
    logprob::{linear_token_logprobs, log_softmax, token_logprobs},
    support::{linear_support_logprobs, linear_total_variation},
};
