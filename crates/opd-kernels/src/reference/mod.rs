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
    logprob::{
        linear_token_logprobs, linear_token_scores, log_softmax, logits, token_logprobs,
        token_scores,
    },
    support::{linear_support_logprobs, linear_total_variation},
};
