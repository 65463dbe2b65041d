use candle_core::{DType, Tensor};

use super::{PolicyInputs, TokenWeights, gspo::sequence_mean};
use crate::{Error, Result};

/// Off-policy sequence masking: bad tokens of sequences that the policy has already left.
///
/// With `m` the mask of the token's sequence:
///
/// ```text
/// moved  = sum_t m_t (old_logprob_t - student_logprob_t) / sum_t m_t
/// weight = 0 where A_t < 0 and moved > delta,   1 elsewhere
/// ```
///
/// `moved` estimates `KL(old || student)` per token, in nats: a sequence that several updates
/// have made unlikely is not pushed down further. On the first update of a batch it is 0, and
/// nothing is masked.
///
/// Source: DeepSeek-V3.2, <https://arxiv.org/abs/2512.02556>; slime's default for `delta` 1e-4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SequenceMask {
    /// The mean log-ratio above which a sequence counts as left; at least 0, nats.
    pub delta: f64,
}

impl Default for SequenceMask {
    fn default() -> Self {
        Self { delta: 1e-4 }
    }
}

impl TokenWeights for SequenceMask {
    fn weights(&self, inputs: &PolicyInputs<'_>) -> Result<Tensor> {
        if !(self.delta >= 0.0 && self.delta.is_finite()) {
            let (expected, got) = ("finite and at least 0", self.delta);
            return Err(Error::Setting { what: "opsm delta", expected, got });
        }
        let moved = sequence_mean(inputs, &inputs.log_ratio()?.detach().neg()?)?;
        let zeros = moved.zeros_like()?;
        let left = moved.gt(&(&zeros + self.delta)?)?;
        let masked = (left * inputs.advantages().lt(&zeros)?)?;
        Ok((masked.to_dtype(DType::F64)?.neg()? + 1.0)?)
    }
}
