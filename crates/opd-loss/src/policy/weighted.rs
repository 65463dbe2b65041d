use candle_core::Tensor;

use super::{PolicyInputs, PolicyLoss, PolicyTokens};
use crate::Result;

/// A factor for the loss of each token, through which no gradient passes.
pub trait TokenWeights: std::fmt::Debug + Send + Sync {
    /// Factors, `[T]` in f64 on the inputs' device, without a graph.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](crate::Error::Setting) for settings outside their range.
    fn weights(&self, inputs: &PolicyInputs<'_>) -> Result<Tensor>;
}

impl<W: TokenWeights + ?Sized> TokenWeights for Box<W> {
    fn weights(&self, inputs: &PolicyInputs<'_>) -> Result<Tensor> {
        (**self).weights(inputs)
    }
}

/// A policy loss whose tokens are multiplied by weights; made by [`PolicyLoss::weighted`].
///
/// ```text
/// loss_t <- sg(weight_t) loss_t
/// ```
///
/// The weights of the aggregation stay: a token of weight 0 still counts as a trained token, so
/// that what is rejected makes the step smaller and the rest no louder.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weighted<L, W> {
    loss: L,
    weights: W,
}

impl<L, W> Weighted<L, W> {
    pub(super) fn new(loss: L, weights: W) -> Self {
        Self { loss, weights }
    }
}

impl<L: PolicyLoss, W: TokenWeights> PolicyLoss for Weighted<L, W> {
    fn name(&self) -> &'static str {
        self.loss.name()
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        let tokens = self.loss.per_token(inputs)?;
        let weights = self.weights.weights(inputs)?.detach();
        let per_token = (&tokens.per_token * &weights)?;
        let weights = match &tokens.weights {
            Some(inner) => (inner * weights)?,
            None => weights,
        };
        Ok(PolicyTokens { per_token, weights: Some(weights), ..tokens })
    }
}
