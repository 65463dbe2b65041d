use candle_core::Tensor;
use opd_kernels::AttentionOutput;

use crate::feed_forward::Inner;

/// What a training forward keeps for its backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpointing {
    /// Every layer's intermediate tensors: fastest.
    #[default]
    Off,
    /// Each layer's input alone; the backward computes the layer again.
    PerLayer,
}

/// The residual stream between layers: `x + delta`, where the sum is left to the next norm.
#[derive(Clone, Debug)]
pub(crate) struct Residual {
    pub(crate) x: Tensor,
    pub(crate) delta: Option<Tensor>,
}

/// What a layer keeps for its backward: results of matrix products and of attention. Norms,
/// rotation and activation cost little, and are computed again.
#[derive(Debug)]
pub(crate) struct Saved {
    /// Residual stream at the layer's input, `[T, H]`.
    pub(crate) x: Tensor,
    /// As its [`Products`](opd_kernels::Products) store it.
    pub(crate) qkv: Tensor,
    pub(crate) attention: AttentionOutput,
    /// Residual stream after attention, `[T, H]`.
    pub(crate) middle: Tensor,
    pub(crate) inner: Inner,
}

#[derive(Debug)]
pub(crate) enum Layer {
    Saved(Box<Saved>),
    Input(Tensor),
}

/// A training forward, waiting for its backward.
#[derive(Debug)]
pub(crate) struct Tape {
    pub(crate) layers: Vec<Layer>,
    /// Residual stream before the final norm.
    pub(crate) last: Tensor,
}
