use candle_core::Tensor;
use opd_kernels::{Head, Projection, TokenLogprobs, linear_token_logprobs};

use super::trained::TrainedRows;
use crate::{Error, LossBatch, Result};

/// A teacher's view of the same tokens; no gradient reaches it.
#[derive(Clone, Copy, Debug)]
pub struct TeacherStates<'a> {
    /// `[T, H']`, in the batch's order; the width may differ from the student's.
    pub hidden: &'a Tensor,
    /// `[V, H']`, over the student's vocabulary unless the objective knows another.
    pub head: Head<'a>,
}

/// What an objective computes from.
#[derive(Clone, Copy, Debug)]
pub struct ObjectiveInputs<'a> {
    /// `[T, H]`: row `t` predicts response token `t`, in the batch's order; carries the graph.
    pub hidden: &'a Tensor,
    /// `[V, H]`: the output head, tied or not; its gradient is computed if it has a graph.
    pub head: Head<'a>,
    /// Logits are divided by this before the softmax: the rollout temperature.
    pub temperature: f64,
    /// The micro-batch.
    pub batch: &'a LossBatch,
    /// The teacher's states, for objectives that compare whole distributions.
    pub teacher: Option<TeacherStates<'a>>,
}

impl ObjectiveInputs<'_> {
    /// Passes if the hidden states are of this batch and something can be trained.
    pub(crate) fn check(&self) -> Result<()> {
        let tokens = self.batch.n_tokens();
        if self.hidden.dims().first() != Some(&tokens) || self.hidden.rank() != 2 {
            return Err(Error::Shape {
                what: "hidden",
                expected: format!("[{tokens}, H], one row per token of the batch"),
                got: self.hidden.dims().to_vec(),
            });
        }
        if !self.hidden.track_op() && !self.head.weight.track_op() {
            return Err(Error::NoGradient { what: "hidden" });
        }
        Ok(())
    }

    /// The trained tokens' part of this.
    pub(crate) fn trained(&self) -> Result<TrainedRows<'_>> {
        self.check()?;
        TrainedRows::of(self)
    }

    /// The student's log-probs of the targets; 0 for tokens that are not trained.
    pub(crate) fn token_logprobs(&self) -> Result<TokenLogprobs> {
        let rows = self.trained()?;
        let Projection { hidden, head } = rows.student();
        rows.spread_logprobs(linear_token_logprobs(hidden, head, &rows.ids, self.temperature)?)
    }
}
