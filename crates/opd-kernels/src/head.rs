use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Tensor, Var};

use crate::{EncodedMatrix, Error, Products, Result, Weight, WeightRef, add_assign};

/// The output matrix of a language model: `logits = hidden weight^T`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `[V, H]`; a part of the graph where it is trained.
    pub weight: WeightRef<'a>,
    /// How the products with it read their operands, forward and backward.
    pub products: Products,
    /// Where its gradient goes instead of candle's [`GradStore`](candle_core::backprop::GradStore).
    pub gradient: Option<&'a HeadGradient>,
}

impl<'a> Head<'a> {
    /// A head whose gradient candle gathers.
    pub fn new(weight: impl Into<WeightRef<'a>>, products: Products) -> Self {
        Self { weight: weight.into(), products, gradient: None }
    }

    /// The matrix as kernels of a GPU take it.
    pub(crate) fn on_gpu(&self, op: &'static str) -> Result<&'a Tensor> {
        let none = || Error::Device { op, device: "of a GPU and an encoded head".to_owned() };
        self.weight.tensor().ok_or_else(none)
    }

    /// Where the backward of an op on `hidden` leaves the gradient of this head: `None` if candle
    /// gathers it, and where none is wanted.
    pub(crate) fn sink(&self, hidden: &Tensor) -> Option<HeadGradient> {
        // Without a graph to `hidden`, candle would not call the backward of an op whose head is
        // outside the graph.
        let gathers = self.weight.track_op() && hidden.track_op() && hidden.device().is_cpu();
        self.gradient.filter(|_| gathers).cloned()
    }
}

impl<'a> From<&'a Tensor> for Head<'a> {
    /// With [`Products::Full`].
    fn from(weight: &'a Tensor) -> Self {
        Self::new(weight, Products::Full)
    }
}

impl<'a> From<&'a EncodedMatrix> for Head<'a> {
    /// With [`Products::Full`].
    fn from(weight: &'a EncodedMatrix) -> Self {
        Self::new(weight, Products::Full)
    }
}

impl<'a> From<&'a Weight> for Head<'a> {
    /// With [`Products::Full`].
    fn from(weight: &'a Weight) -> Self {
        Self::new(weight, Products::Full)
    }
}

impl<'a> From<&'a Var> for Head<'a> {
    /// As that of its tensor.
    fn from(weight: &'a Var) -> Self {
        weight.as_tensor().into()
    }
}

/// The gradient of a [`Head`], as the backward of fused ops on the CPU leaves it.
///
/// candle adds every gradient to zeros, and so holds three tensors of its size for a moment; the
/// head's is the largest. What ops of candle itself do with the weight is gathered by candle as
/// ever: the gradient is the sum of both.
#[derive(Clone, Debug, Default)]
pub struct HeadGradient(Arc<Mutex<Option<Tensor>>>);

impl HeadGradient {
    /// What has been gathered, `[V, H]`, if anything; nothing is left here.
    pub fn take(&self) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn add(&self, gradient: Tensor) -> Result<()> {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sum {
            Some(sum) => add_assign(sum, &gradient),
            None => {
                *sum = Some(gradient);
                Ok(())
            }
        }
    }
}
