use candle_core::Tensor;
use opd_batch::Ragged;

use crate::{Error, LossBatch, PolicyInputs, Result};

/// The loss of a critic, from its values: squared error to the returns, clipped around the
/// values that the returns were made with.
///
/// ```text
/// bounded_t = clamp(value_t, old_value_t - clip, old_value_t + clip)
/// loss_t    = max((bounded_t - return_t)^2, (value_t - return_t)^2)
/// ```
///
/// No factor of one half. Where the bounded value is the worse one the gradient is 0.
///
/// Source: Huang et al. 2024, The N+ Implementation Details of RLHF with PPO,
/// <https://arxiv.org/abs/2403.17031>.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueLoss {
    /// How far a value may move from its old one before the move stops paying; at least 0, in
    /// units of the reward.
    pub clip: f64,
}

impl Default for ValueLoss {
    /// 0.2.
    fn default() -> Self {
        Self { clip: 0.2 }
    }
}

/// A value loss aggregated over a batch.
#[derive(Clone, Debug)]
pub struct ValueLossOutput {
    /// Scalar `sum_t w_t l_t` with graph, in the dtype of the values.
    pub loss: Tensor,
    /// The loss of each token, `[T]` in f64, without a graph; 0 where the mask is false.
    pub per_token: Tensor,
    /// 1 where the bounded value decided, `[T]` (u8).
    pub clipped: Tensor,
}

impl ValueLoss {
    /// The loss of a batch or micro-batch.
    ///
    /// `values` is `[T]`, in the batch's order, with graph; `old_values` and `returns` share the
    /// batch's rows.
    ///
    /// # Errors
    ///
    /// As [`PolicyInputs::new`], naming `values`; [`opd_batch::Error::Rows`];
    /// [`Error::Setting`] for the clip.
    pub fn loss(
        &self,
        values: &Tensor,
        old_values: &Ragged<f32>,
        returns: &Ragged<f32>,
        batch: &LossBatch,
    ) -> Result<ValueLossOutput> {
        if !(self.clip >= 0.0 && self.clip.is_finite()) {
            let (expected, got) = ("finite and at least 0", self.clip);
            return Err(Error::Setting { what: "value clip", expected, got });
        }
        let inputs = PolicyInputs::named("values", values, batch)?;
        let (old, returns) = (inputs.stream(old_values)?, inputs.stream(returns)?);
        let value = inputs.student_logprobs();
        let free = (value - &returns)?.sqr()?;
        let low = (&old - self.clip)?;
        let bounded = value.detach().maximum(&low)?.minimum(&(&old + self.clip)?)?;
        let bounded = (bounded - &returns)?.sqr()?;
        let clipped = bounded.gt(&free.detach())?;
        let per_token = clipped.where_cond(&bounded, &free)?;
        let loss = inputs.aggregate("value loss", &per_token)?;
        Ok(ValueLossOutput {
            loss: loss.to_dtype(values.dtype())?,
            per_token: per_token.detach(),
            clipped,
        })
    }
}
