use candle_core::Tensor;

use super::Metric;

/// What an objective says of a micro-batch.
#[derive(Clone, Debug)]
pub struct ObjectiveOutput {
    /// Scalar with graph, weighted by the global batch's counts: call `backward` on it.
    pub loss: Tensor,
    /// Means in the making, to be merged over micro-batches with [`Metric::merge`].
    pub metrics: Vec<Metric>,
    /// The student's log-probs of the targets, `[T]`, nats, without a graph; 0 where a token is not
    /// trained.
    pub student_logprobs: Tensor,
    /// The student's entropies, `[T]`, nats, without a graph; 0 where a token is not trained.
    pub entropy: Tensor,
}
