use candle_core::Tensor;

use super::{PolicyInputs, TokenWeights, Weighted};
use crate::{LossBatch, Result};

/// What a policy loss says of each token; `[T]` each.
#[derive(Clone, Debug)]
pub struct PolicyTokens {
    /// The loss of each token, with graph.
    pub per_token: Tensor,
    /// `exp(student_logprob - old_logprob)`, or the sequence's where the loss uses that;
    /// without a graph.
    pub ratio: Tensor,
    /// 1 where the ratio was clipped (u8).
    pub clipped: Tensor,
    /// The factor that [`PolicyLoss::weighted`] put on `per_token`, f64; `None` is 1 everywhere.
    pub weights: Option<Tensor>,
}

/// A policy loss aggregated over a batch.
#[derive(Clone, Debug)]
pub struct PolicyLossOutput {
    /// Scalar `sum_t w_t l_t` in the dtype of the log-probs: losses of micro-batches add up to
    /// the loss of the batch.
    pub loss: Tensor,
    /// The loss of each token, `[T]` in f64, without a graph; 0 where the mask is false.
    pub per_token: Tensor,
    /// The ratio of each token, `[T]` in f64, without a graph.
    pub ratio: Tensor,
    /// 1 where the ratio was clipped, `[T]` (u8).
    pub clipped: Tensor,
}

/// A loss of each token from its log-prob, its old log-prob and its advantage.
///
/// The ratio is always against `old_logprobs`; the sampler's log-probs never enter here.
pub trait PolicyLoss: std::fmt::Debug + Send + Sync {
    /// Name for logs and errors.
    fn name(&self) -> &'static str;

    /// The loss of each token.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](crate::Error::Setting) for settings outside their range.
    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens>;

    /// The loss of a batch or micro-batch.
    ///
    /// `student_logprobs` is `[T]` in nats, in the batch's order, and carries the graph.
    ///
    /// # Errors
    ///
    /// As [`PolicyInputs::new`]; [`Error::NotFinite`](crate::Error::NotFinite) naming row and
    /// token of a loss that is trained on.
    fn loss(&self, student_logprobs: &Tensor, batch: &LossBatch) -> Result<PolicyLossOutput> {
        let inputs = PolicyInputs::new(student_logprobs, batch)?;
        let tokens = self.per_token(&inputs)?;
        let loss = inputs.aggregate(self.name(), &tokens.per_token)?;
        Ok(PolicyLossOutput {
            loss: loss.to_dtype(student_logprobs.dtype())?,
            per_token: tokens.per_token.detach(),
            ratio: tokens.ratio,
            clipped: tokens.clipped,
        })
    }

    /// The loss with a factor per token: corrections for the sampler, masks of sequences.
    fn weighted<W>(self, weights: W) -> Weighted<Self, W>
    where
        Self: Sized,
        W: TokenWeights,
    {
        Weighted::new(self, weights)
    }
}

impl<L: PolicyLoss + ?Sized> PolicyLoss for Box<L> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        (**self).per_token(inputs)
    }
}
