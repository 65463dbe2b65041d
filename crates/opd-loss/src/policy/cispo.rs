use super::{Clip, PolicyInputs, PolicyLoss, PolicyTokens};
use crate::Result;

/// Clipped importance sampling: the weight is bounded, the token's gradient never vanishes.
///
/// ```text
/// ratio_t = exp(student_logprob_t - old_logprob_t)
/// loss_t  = -sg(clamp(ratio_t, 1 - below, 1 + above)) A_t student_logprob_t
/// ```
///
/// Source: MiniMax-M1, <https://arxiv.org/abs/2506.13585>, eq. 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cispo {
    /// Bounds of the weight.
    pub clip: Clip,
}

impl Default for Cispo {
    /// Weights up to 5, no lower bound.
    fn default() -> Self {
        Self { clip: Clip { below: 1.0, above: 4.0 } }
    }
}

impl PolicyLoss for Cispo {
    fn name(&self) -> &'static str {
        "cispo"
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        self.clip.check()?;
        let ratio = inputs.log_ratio()?.detach().exp()?;
        let weight = self.clip.apply(&ratio)?;
        let gain = ((&weight * inputs.advantages())? * inputs.student_logprobs())?;
        let clipped = weight.ne(&ratio)?;
        Ok(PolicyTokens { per_token: gain.neg()?, clipped, ratio, weights: None })
    }
}
