use opd_batch::Finish;

use crate::{Result, Sampling};

/// A prompt to be continued once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Token ids, at least one. Requests with equal prompts share their computation.
    pub prompt: Vec<u32>,
    /// With the engine's seed, fixes every random choice of this sequence, whatever else is
    /// in the batch.
    pub stream: u64,
}

/// What was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Token ids; the end-of-sequence token is included.
    pub tokens: Vec<u32>,
    /// Log-prob (nats) of each token under the full softmax at the sampling temperature.
    pub logprobs: Vec<f32>,
    /// Log-prob (nats) under what was drawn from, where a [`Truncation`](crate::Truncation) or a
    /// penalty made that something else.
    pub truncated_logprobs: Option<Vec<f32>>,
    /// Why it ended.
    pub finish: Finish,
}

/// Samples responses from the student.
pub trait RolloutEngine {
    /// One response per request, in order.
    ///
    /// # Errors
    ///
    /// Names the request at fault.
    fn generate(&self, requests: &[Request], sampling: &Sampling) -> Result<Vec<Generation>>;
}
