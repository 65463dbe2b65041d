use candle_core::Tensor;
use opd_batch::KlEstimator;

use crate::{Error, PolicyInputs, Result};

/// A pull back towards the frozen start policy: `coef` times an estimate of
/// `KL(student || reference)` at the sampled token.
///
/// With `d = student_logprob - reference_logprob`, the expected gradient on on-policy samples:
///
/// ```text
/// estimator   loss              gradient
/// k1          d                 0: refused unless importance weighted
/// k2          d^2 / 2           reverse KL
/// k3          exp(-d) - 1 + d   FORWARD KL
/// low_var     k3 in [-10, 10]   as k3 inside the bounds, 0 outside
/// any, times exp(student_logprob - old_logprob): reverse KL for k1 and k3
/// ```
///
/// Source: Schulman, <http://joschu.net/blog/kl-approx.html>; the importance weight from
/// DeepSeek-V3.2, <https://arxiv.org/abs/2512.02556>.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferenceKl {
    coef: f32,
    estimator: KlEstimator,
    importance_weighted: bool,
}

impl ReferenceKl {
    /// The estimator as a loss.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for [`KlEstimator::K1`]; [`Error::Setting`] for a coefficient that is
    /// negative or not finite.
    pub fn new(coef: f32, estimator: KlEstimator) -> Result<Self> {
        if estimator == KlEstimator::K1 {
            return Err(Error::Refused {
                what: "k1 as a loss",
                reason: "the expected gradient of student_logprob - reference_logprob is 0 on \
                         on-policy samples, whatever the reference says",
                remedy: "use k2 for the reverse KL's gradient, k3 for the forward KL's, weight \
                         k1 by importance (`ReferenceKl::importance_weighted`), or put the k1 \
                         penalty into the advantages",
            });
        }
        Self { coef, estimator, importance_weighted: false }.checked()
    }

    /// The estimator times `exp(student_logprob - old_logprob)`, clamped after the product.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a coefficient that is negative or not finite.
    pub fn importance_weighted(coef: f32, estimator: KlEstimator) -> Result<Self> {
        Self { coef, estimator, importance_weighted: true }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.coef >= 0.0 && self.coef.is_finite() {
            return Ok(self);
        }
        let (expected, got) = ("finite and at least 0", self.coef.into());
        Err(Error::Setting { what: "kl_loss_coef", expected, got })
    }

    /// Weight of the term.
    pub fn coef(&self) -> f32 {
        self.coef
    }

    /// The estimate of each token, `[T]`, nats, with graph; not multiplied by the coefficient.
    ///
    /// # Errors
    ///
    /// [`opd_batch::Error::MissingStream`] if the batch has no reference log-probs.
    pub fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<Tensor> {
        let reference = inputs.stream(inputs.batch().reference_logprobs("ReferenceKl")?)?;
        let d = (inputs.student_logprobs() - reference)?;
        let estimate = match self.estimator {
            KlEstimator::K1 => d,
            KlEstimator::K2 => (d.sqr()? / 2.0)?,
            KlEstimator::K3 => k3(&d)?,
            // Far inside what the last clamp cuts; an infinite exp would make its gradient NaN.
            KlEstimator::LowVar => k3(&d.clamp(-700.0, 700.0)?)?,
        };
        let estimate = match self.importance_weighted {
            true => (estimate * inputs.log_ratio()?.exp()?)?,
            false => estimate,
        };
        Ok(match self.estimator {
            KlEstimator::LowVar => estimate.clamp(-10.0, 10.0)?,
            _ => estimate,
        })
    }
}

fn k3(d: &Tensor) -> Result<Tensor> {
    Ok(((d.neg()?.exp()? - 1.0)? + d)?)
}
