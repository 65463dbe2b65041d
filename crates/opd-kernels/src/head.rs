use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Tensor, Var};

use crate::{EncodedMatrix, Error, Products, Result, Weight, WeightRef, add_assign, shape};

/// The output layer of a language model: `logits = hidden weight^T + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `[V, H]`; a part of the graph where it is trained.
    pub weight: WeightRef<'a>,
    /// How the products with it read their operands, forward and backward.
    pub products: Products,
    /// `[V]`, of the dtype of the hidden states, if there is one; a part of the graph where it is
    /// trained. It is added to the finished products.
    pub bias: Option<&'a Tensor>,
    /// Where the weight's gradient goes instead of candle's [`GradStore`](candle_core::backprop::GradStore).
    pub gradient: Option<&'a HeadGradient>,
}

impl<'a> Head<'a> {
    /// A head without bias whose gradient candle gathers.
    pub fn new(weight: impl Into<WeightRef<'a>>, products: Products) -> Self {
        Self { weight: weight.into(), products, bias: None, gradient: None }
    }

    /// The same with a bias `[V]`.
    pub fn with_bias(self, bias: &'a Tensor) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Passes if the bias, where there is one, fits a vocabulary and the hidden states.
    pub(crate) fn check_bias(&self, op: &'static str, vocab: usize, hidden: &Tensor) -> Result<()> {
        let Some(bias) = self.bias else { return Ok(()) };
        shape::expect(op, "the head's bias", bias, &[vocab], "[V]")?;
        shape::same_dtype(op, "the head's bias", bias, hidden.dtype())?;
        match bias.device().same_device(hidden.device()) {
            true => Ok(()),
            false => {
                let device = format!("{:?} of the head's bias", bias.device());
                Err(Error::Device { op, device })
            }
        }
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
