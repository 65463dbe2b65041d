use super::{PolicyInputs, PolicyLoss, PolicyTokens, clip::surrogate};
use crate::Result;

/// Importance-weighted policy gradient.
///
/// ```text
/// ratio_t = exp(student_logprob_t - old_logprob_t)
/// loss_t  = -ratio_t A_t
/// ```
///
/// Source: what Tinker calls `importance_sampling`, its default for on-policy distillation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportanceSampling;

impl PolicyLoss for ImportanceSampling {
    fn name(&self) -> &'static str {
        "importance_sampling"
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        surrogate(&inputs.log_ratio()?, inputs.advantages(), None, None)
    }
}
