#![doc = include_str!("../README.md")]

mod adamw;
mod allocator;
mod attention;
mod cache;
mod cpu;
mod divergence;
mod draw;
mod embedding;
mod encoded;
mod error;
mod form;
mod gpu;
mod head;
mod known_gradients;
mod linear_cross_vocabulary;
mod linear_divergence;
mod linear_divergence_loss;
mod linear_logprob;
mod linear_op;
mod linear_row_loss;
mod linear_rows;
mod linear_support;
mod linear_token_scores;
mod linear_total_variation;
mod logprob;
mod mapped;
mod matmul;
mod moving_average;
mod projection;
pub mod reference;
mod rms_norm;
mod rotary;
mod row_divergence_loss;
mod row_loss;
mod scans;
mod shape;
mod softmax;
mod spans;
mod stored;
mod swiglu;
mod token_options;
mod token_scores;
mod weight;

#[cfg(feature = "mimalloc")]
pub use self::allocator::keep_freed_memory;
#[cfg(feature = "cuda")]
pub use self::gpu::DeviceMemory;
pub use self::{
    adamw::{
        AdamWStep, adamw_moments, adamw_step, adamw_step_with_copy, add_assign, sum_of_squares,
    },
    allocator::give_back_freed_memory,
    attention::{AttentionOutput, attention, attention_backward},
    cache::write_rows,
    cpu::projection::head_chunk_rows,
    divergence::{Divergence, DivergenceOutput, divergence},
    draw::{Drawn, draw, draw_rows, likeliest, likeliest_rows},
    embedding::{embedding, scatter_add_rows},
    encoded::EncodedMatrix,
    error::{Error, Result},
    head::{Head, HeadGradient},
    linear_cross_vocabulary::{CrossVocabulary, linear_cross_vocabulary},
    linear_divergence::linear_divergence,
    linear_divergence_loss::{LinearDivergenceLoss, linear_divergence_loss},
    linear_logprob::linear_token_logprobs,
    linear_row_loss::{RowLoss, linear_row_loss},
    linear_rows::{RowLogprobs, RowQuery, linear_row_logprobs},
    linear_support::{SupportLogprobs, linear_support_logprobs},
    linear_token_scores::linear_token_scores,
    linear_total_variation::linear_total_variation,
    logprob::{TokenLogprobs, token_logprobs},
    mapped::MappedFile,
    matmul::{
        PackedWeight, Products, linear, linear_acc, linear_grad_input, linear_grad_weight,
        linear_grad_weight_acc, linear_packed,
    },
    moving_average::moving_average,
    projection::Projection,
    rms_norm::{add_rms_norm, rms_norm, rms_norm_backward},
    rotary::{
        HeadNorms, Heads, RotaryTable, RotateHeadsGradients, rotate_heads, rotate_heads_backward,
    },
    row_divergence_loss::{DivergenceLoss, row_divergence_loss},
    row_loss::{LogitsLoss, row_loss},
    scans::{advantages_and_returns, discounted_sums},
    softmax::Softmax,
    spans::{Span, Spans},
    swiglu::{swiglu, swiglu_as, swiglu_backward},
    token_options::{TokenOptions, TokenScores, TopTokens},
    token_scores::token_scores,
    weight::{Weight, WeightRef},
};
