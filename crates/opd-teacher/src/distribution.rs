use candle_core::Tensor;
use opd_batch::{Ragged, ScoredSequence, SpanToken};
use opd_kernels::{Head, Products, Weight};

use crate::Result;

/// Hidden states and head: a teacher's distributions, not yet written out.
#[derive(Clone, Debug)]
pub struct States {
    /// `[T, H]`; row `t` predicts response token `t`.
    pub hidden: Tensor,
    /// `[V, H]`.
    pub head: Weight,
    /// Those with the head.
    pub products: Products,
}

impl States {
    /// The head, for kernels.
    pub fn head(&self) -> Head<'_> {
        Head::new(&self.head, self.products)
    }
}

/// A teacher whose whole distribution can be compared with the student's.
pub trait DistributionTeacher: Send + Sync {
    /// States that predict the response tokens of `sequences`, in order; no graph is kept.
    ///
    /// # Errors
    ///
    /// If the sequences do not fit the model.
    fn states(&self, sequences: &[ScoredSequence<'_>]) -> Result<States>;

    /// Where each token stands in its span, if the teacher cuts text into other tokens than the
    /// student; only the states of spans' first tokens mean something then.
    ///
    /// # Errors
    ///
    /// If a text cannot be cut.
    fn spans(&self, _sequences: &[ScoredSequence<'_>]) -> Result<Option<Ragged<SpanToken>>> {
        Ok(None)
    }
}
