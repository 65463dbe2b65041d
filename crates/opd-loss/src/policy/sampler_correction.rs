use candle_core::Tensor;
use opd_batch::Ragged;

use super::{PolicyInputs, TokenWeights};
use crate::{Error, LossBatch, Result};

/// What one importance weight is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grain {
    /// Each token has its own: low variance, biased for a whole response.
    #[default]
    Token,
    /// The product over a sequence's trained tokens: unbiased, of a variance that grows with
    /// the length.
    Sequence,
    /// The geometric mean over a sequence's trained tokens: comparable between lengths.
    Geometric,
}

/// What happens to a weight outside the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outside {
    /// It is clamped to them.
    #[default]
    Truncate,
    /// It becomes 0; inside it stays as it is.
    Reject,
    /// It becomes 0; inside it becomes 1: selection without reweighting.
    Mask,
}

/// Corrects for a sampler that does not compute what the trainer computes: other kernels, other
/// precision, older weights.
///
/// ```text
/// w_t = exp(old_logprob_t - sampler_logprob_t)           Token
/// w   = exp(sum_t m_t (old_logprob_t - sampler_logprob_t))        Sequence
/// w   = exp(mean_t m_t (old_logprob_t - sampler_logprob_t))       Geometric
/// weight = clamp(w, low, high)   or   w or 1 inside [low, high], 0 outside
/// ```
///
/// | usual name | here |
/// |---|---|
/// | TIS | [`Self::tis`]: `Token`, `Truncate`, 0 to 2 |
/// | IcePop, token-level MIS | [`Self::ice_pop`]: `Token`, `Reject`, 0.5 to 5 |
/// | sequence-level TIS | `Sequence`, `Truncate` |
/// | sequence-level MIS, rejection | [`Self::masked_sequences`]: `Sequence`, `Reject`, 0 to 2 |
/// | geometric rejection | `Geometric`, `Mask` |
///
/// A constant per token: no gradient passes, and masked tokens take no part.
///
/// Source: TIS Yao et al. 2025, Your Efficient RL Framework Secretly Brings You Off-Policy RL
/// Training; IcePop Zhao et al. 2025, Small Leak Can Sink a Great Ship; sequence-level weights
/// and rejection Liu et al. 2025, When Speed Kills Stability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerCorrection {
    /// What a weight is taken over.
    pub grain: Grain,
    /// What happens outside the bounds.
    pub outside: Outside,
    /// The lower bound, at least 0.
    pub low: f64,
    /// The upper bound, finite, at least `low` and above 0.
    pub high: f64,
}

impl SamplerCorrection {
    /// Truncated importance sampling: token weights in 0..=2.
    pub fn tis() -> Self {
        Self { grain: Grain::Token, outside: Outside::Truncate, low: 0.0, high: 2.0 }
    }

    /// Token weights outside 0.5..=5 drop their token.
    pub fn ice_pop() -> Self {
        Self { grain: Grain::Token, outside: Outside::Reject, low: 0.5, high: 5.0 }
    }

    /// Sequence weights above 2 drop their sequence.
    pub fn masked_sequences() -> Self {
        Self { grain: Grain::Sequence, outside: Outside::Reject, low: 0.0, high: 2.0 }
    }

    /// The weight of each token; what a masked token has means nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for bounds outside their ranges; [`Error::NotFinite`] naming row and
    /// token of a trained token whose log-ratio is not finite.
    pub fn of(&self, batch: &LossBatch) -> Result<Ragged<f32>> {
        self.check()?;
        let sampler = batch.sampler_logprobs();
        let difference = |old: &f32, sampler: &f32| f64::from(*old) - f64::from(*sampler);
        let ratios = batch.old_logprobs().zip_with(sampler, "sampler_logprobs", difference)?;
        batch.check_trained("old less sampler log-prob", ratios.values().iter().copied())?;
        let rows = batch.rows().clone();
        let mut weights = Vec::with_capacity(rows.n_tokens());
        for (ratios, mask) in ratios.iter().zip(batch.mask().iter()) {
            let trained = || ratios.iter().zip(mask).filter(|(_, trained)| **trained);
            let sum = || trained().map(|(ratio, _)| ratio).sum::<f64>();
            let whole = match self.grain {
                Grain::Token => None,
                Grain::Sequence => Some(sum()),
                Grain::Geometric => Some(sum() / trained().count().max(1) as f64),
            };
            weights.extend(ratios.iter().map(|ratio| self.bounded(whole.unwrap_or(*ratio).exp())));
        }
        Ok(Ragged::new("sampler correction", rows, weights)?)
    }

    fn bounded(&self, weight: f64) -> f32 {
        let inside = (self.low..=self.high).contains(&weight);
        let weight = match self.outside {
            Outside::Truncate => weight.clamp(self.low, self.high),
            Outside::Reject if inside => weight,
            Outside::Mask if inside => 1.0,
            Outside::Reject | Outside::Mask => 0.0,
        };
        weight as f32
    }

    fn check(&self) -> Result<()> {
        if !(self.low >= 0.0 && self.low.is_finite()) {
            let (expected, got) = ("finite and at least 0", self.low);
            return Err(Error::Setting { what: "sampler correction low", expected, got });
        }
        if !(self.high > 0.0 && self.high >= self.low && self.high.is_finite()) {
            let (expected, got) = ("finite, above 0 and at least the lower bound", self.high);
            return Err(Error::Setting { what: "sampler correction high", expected, got });
        }
        Ok(())
    }
}

impl TokenWeights for SamplerCorrection {
    fn weights(&self, inputs: &PolicyInputs<'_>) -> Result<Tensor> {
        inputs.stream(&self.of(inputs.batch())?)
    }
}
