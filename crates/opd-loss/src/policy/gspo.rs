use candle_core::{DType, Tensor};

use super::{Clip, PolicyInputs, PolicyLoss, PolicyTokens, clip::surrogate};
use crate::Result;

/// Group sequence policy optimisation: one ratio for the whole sequence, clipped as in PPO.
///
/// With `m` the mask of the token's sequence:
///
/// ```text
/// ratio  = exp(sum_t m_t (student_logprob_t - old_logprob_t) / sum_t m_t)
/// loss_t = max(-ratio A_t, -clamp(ratio, 1 - below, 1 + above) A_t)
/// ```
///
/// The gradient passes through the mean: every token of the sequence shares it.
///
/// Source: Zheng et al. 2025, <https://arxiv.org/abs/2507.18071>, eq. 5 and 7.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gspo {
    /// Bounds of the ratio; far tighter than PPO's, for a mean moves little.
    pub clip: Clip,
}

impl Default for Gspo {
    /// The source's 3e-4 below and 4e-4 above.
    fn default() -> Self {
        Self { clip: Clip { below: 3e-4, above: 4e-4 } }
    }
}

impl PolicyLoss for Gspo {
    fn name(&self) -> &'static str {
        "gspo"
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> Result<PolicyTokens> {
        let mean = sequence_mean(inputs, &inputs.log_ratio()?)?;
        surrogate(&mean, inputs.advantages(), Some(self.clip), None)
    }
}

/// The mean over the trained tokens of each sequence, given to all its tokens.
///
/// `values` is `[T]` and 0 where the mask is false.
pub(super) fn sequence_mean(inputs: &PolicyInputs<'_>, values: &Tensor) -> Result<Tensor> {
    let mask = inputs.batch().mask();
    let device = values.device();
    let lengths = mask.rows().lengths().enumerate();
    let rows: Vec<u32> = lengths.flat_map(|(row, n)| vec![row as u32; n]).collect();
    let rows = Tensor::from_vec(rows, values.elem_count(), device)?; // [T]
    let trained = |row: &[bool]| row.iter().filter(|&&trained| trained).count().max(1) as f64;
    let counts: Vec<f64> = mask.iter().map(trained).collect();
    let n_rows = counts.len();
    let counts = Tensor::from_vec(counts, n_rows, device)?;
    let sums = Tensor::zeros(n_rows, DType::F64, device)?.index_add(&rows, values, 0)?;
    Ok((sums / counts)?.index_select(&rows, 0)?)
}
