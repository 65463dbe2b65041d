use candle_core::Tensor;

use super::PolicyTokens;
use crate::{Error, Result};

/// How far a ratio may leave 1 before it stops being pushed further.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// The ratio's lower bound is `1 - below`; in `0..=1`.
    pub below: f32,
    /// The ratio's upper bound is `1 + above`; at least 0.
    pub above: f32,
}

impl Clip {
    /// Passes if the bounds are in their ranges.
    pub(crate) fn check(self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.below) {
            let got = self.below.into();
            return Err(Error::Setting { what: "clip below", expected: "in 0..=1", got });
        }
        if !(self.above >= 0.0 && self.above.is_finite()) {
            let (expected, got) = ("finite and at least 0", self.above.into());
            return Err(Error::Setting { what: "clip above", expected, got });
        }
        Ok(())
    }

    /// The ratio within the bounds.
    pub(crate) fn apply(self, ratio: &Tensor) -> Result<Tensor> {
        Ok(ratio.clamp(1.0 - f64::from(self.below), 1.0 + f64::from(self.above))?)
    }
}

/// `-exp(log_ratio) * A`, clipped and dual-clipped if asked for.
///
/// Where the loss is a constant it is written as one: `exp` of a ratio that no gradient
/// passes is never part of the graph, so that it cannot overflow there.
pub(crate) fn surrogate(
    log_ratio: &Tensor,
    advantages: &Tensor,
    clip: Option<Clip>,
    dual: Option<f32>,
) -> Result<PolicyTokens> {
    let ratio = log_ratio.detach().exp()?;
    let free = (&ratio * advantages)?.neg()?;
    let mut clipped = ratio.zeros_like()?.to_dtype(candle_core::DType::U8)?;
    let mut constant = free.zeros_like()?;
    // An advantage of 0 is a loss of 0 however large the ratio.
    let mut flat = advantages.eq(&constant)?;
    if let Some(clip) = clip {
        clip.check()?;
        let bound = (clip.apply(&ratio)? * advantages)?.neg()?;
        clipped = bound.gt(&free)?;
        constant = clipped.where_cond(&bound, &constant)?;
        flat = flat.maximum(&clipped)?;
        if let Some(dual) = dual {
            if !(dual > 1.0 && dual.is_finite()) {
                let (expected, got) = ("finite and above 1", dual.into());
                return Err(Error::Setting { what: "dual clip", expected, got });
            }
            let least = (advantages * -f64::from(dual))?;
            let loss = bound.maximum(&free)?;
            let hit = (least.lt(&loss)? * advantages.lt(&advantages.zeros_like()?)?)?;
            constant = hit.where_cond(&least, &constant)?;
            flat = flat.maximum(&hit)?;
        }
    }
    let exponent = flat.where_cond(&log_ratio.zeros_like()?, log_ratio)?;
    let moving = (exponent.exp()? * advantages)?.neg()?;
    let per_token = flat.where_cond(&constant, &moving)?;
    Ok(PolicyTokens { per_token, ratio, clipped, weights: None })
}
