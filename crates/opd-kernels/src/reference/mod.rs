//! The kernels' readable definitions: plain candle, differentiable, with temporaries of
//! the size of all logits, scores or pairs of tokens.
//!
//! Tests compare every kernel with its namesake here. Logits must be finite.

mod cross_vocabulary;
mod divergence;
mod layers;
mod logprob;
mod support;
mod training;

pub use self::{
    cross_vocabulary::linear_cross_vocabulary,
    divergence::{divergence, linear_divergence},
    layers::{
        add_rms_norm, attention, embedding, gradients, linear, rms_norm, rotate_heads,
        scatter_add_rows, swiglu,
    },
    logprob::{
        linear_token_logprobs, linear_token_scores, log_softmax, logits, token_logprobs,
        token_scores,
    },
    support::{linear_support_logprobs, linear_total_variation},
    training::{
        adamw_step, advantages_and_returns, discounted_sums, global_norm, moving_average,
        sum_of_squares,
    },
};
