use std::sync::Arc;

use opd_batch::{Ragged, ScoredBatch};

use crate::{Plus, PrefixRatio, PrefixWeighted, Result, Whitened};

/// Turns scores into advantages.
///
/// Runs on the CPU over plain `f32`: a batch is small next to its logits. The trait is usable
/// as `dyn AdvantageEstimator`; `&E`, `Box<E>` and `Arc<E>` are estimators where `E` is one.
///
/// One's own estimator needs one method:
///
/// ```
/// use opd_advantage::{AdvantageEstimator, Result, ReverseKl};
/// use opd_batch::{Ragged, ScoredBatch};
///
/// /// Rewards short answers: `1 / length` for every token.
/// struct Brevity;
///
/// impl AdvantageEstimator for Brevity {
///     fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
///         let responses = batch.rollouts().responses();
///         Ok(Ragged::from_rows(responses.iter().map(|y| vec![1.0 / y.len() as f32; y.len()])))
///     }
/// }
///
/// let with_distillation: Box<dyn AdvantageEstimator> = Box::new(Brevity.plus(ReverseKl::default()));
/// ```
pub trait AdvantageEstimator: Send + Sync {
    /// One advantage per response token, in the rows of the batch's responses; higher makes the
    /// token more likely.
    ///
    /// Tokens outside [`ScoredBatch::mask`] get a finite value too, which no loss reads.
    ///
    /// # Errors
    ///
    /// Says which setting is out of range, which stream is missing or misaligned, or at which
    /// row and token an advantage is not finite.
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>>;

    /// Passes if every setting is in its range.
    ///
    /// The estimators of this crate call it in [`Self::advantages`]; call it yourself to refuse
    /// a bad configuration before the first rollout.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`](crate::Error::Setting) naming estimator, field, range and value.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Token-wise sum of two estimators: adds the distillation signal to any of them.
    fn plus<E>(self, other: E) -> Plus<Self, E>
    where
        Self: Sized,
        E: AdvantageEstimator,
    {
        Plus::new(self, other)
    }

    /// Weighs early tokens more, by the signal that came before each; 0.5 is usual.
    fn prefix_weighted(self, gamma: f32) -> PrefixWeighted<Self>
    where
        Self: Sized,
    {
        PrefixWeighted::new(self, gamma)
    }

    /// Weighs tokens by how likely the teacher is to have written what came before each, to
    /// `power`; 1 is the likelihood ratio itself.
    fn prefix_ratio(self, power: f32) -> PrefixRatio<Self>
    where
        Self: Sized,
    {
        PrefixRatio::new(self, power)
    }

    /// Mean 0 and variance 1 over the batch's tokens with mask 1; call it last.
    fn whitened(self) -> Whitened<Self>
    where
        Self: Sized,
    {
        Whitened::new(self)
    }
}

macro_rules! forward_estimator {
    ($($pointer:ty),*) => {$(
        impl<E: AdvantageEstimator + ?Sized> AdvantageEstimator for $pointer {
            fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
                (**self).advantages(batch)
            }

            fn validate(&self) -> Result<()> {
                (**self).validate()
            }
        }
    )*};
}

forward_estimator!(&E, Box<E>, Arc<E>);
