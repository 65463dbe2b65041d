use candle_core::DType;

use super::{PolicyInputs, PolicyLoss, PolicyTokens};
use crate::Result;

/// The score-function gradient, without a ratio.
///
/// ```text
/// loss_t = -A_t student_logprob_t
/// ```
///
/// Right only for the first update after sampling: nothing corrects for a policy that has
/// moved since.
///
/// Source: Williams 1992, <https://doi.org/10.1007/BF00992696>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reinforce;

impl PolicyLoss for Reinforce {
    fn name(&self) -> &'static str {
        "reinforce"
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        let ratio = inputs.log_ratio()?.detach().exp()?;
        Ok(PolicyTokens {
            per_token: (inputs.student_logprobs() * inputs.advantages())?.neg()?,
            clipped: ratio.zeros_like()?.to_dtype(DType::U8)?,
            ratio,
            weights: None,
        })
    }
}
