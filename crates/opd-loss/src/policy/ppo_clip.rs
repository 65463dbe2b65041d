use super::{Clip, PolicyInputs, PolicyLoss, PolicyTokens, clip::surrogate};
use crate::Result;

/// Proximal policy optimisation: no gain from moving the ratio beyond its bounds.
///
/// ```text
/// ratio_t = exp(student_logprob_t - old_logprob_t)
/// loss_t  = max(-ratio_t A_t, -clamp(ratio_t, 1 - below, 1 + above) A_t)
/// loss_t  = min(-dual A_t, loss_t)                    where A_t < 0, if dual is set
/// ```
///
/// Source: Schulman et al. 2017, <https://arxiv.org/abs/1707.06347>, eq. 7; separate bounds
/// from DAPO, <https://arxiv.org/abs/2503.14476>; dual clip from Ye et al. 2020,
/// <https://arxiv.org/abs/1912.09729>, eq. 5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PpoClip {
    /// Bounds of the ratio.
    pub clip: Clip,
    /// The most that a bad token costs, in multiples of `|A|`; above 1. `None` is no limit.
    pub dual: Option<f32>,
}

impl Default for PpoClip {
    /// 0.2 on both sides, no dual clip.
    fn default() -> Self {
        Self { clip: Clip { below: 0.2, above: 0.2 }, dual: None }
    }
}

impl PolicyLoss for PpoClip {
    fn name(&self) -> &'static str {
        "ppo_clip"
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        surrogate(&inputs.log_ratio()?, inputs.advantages(), Some(self.clip), self.dual)
    }
}
