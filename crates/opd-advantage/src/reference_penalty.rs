use opd_batch::{KlEstimator, ScoredBatch};

use crate::Result;

/// `-kl_coef * k_t` of every packed token, `k` being `kl` of (old, reference), in nats.
///
/// All zero, and no reference log-probs needed, if `kl_coef` is 0.
pub(crate) fn reference_penalty(
    batch: &ScoredBatch<'_>,
    kl_coef: f32,
    kl: KlEstimator,
    needed_by: &'static str,
) -> Result<Vec<f64>> {
    if kl_coef == 0.0 {
        return Ok(vec![0.0; batch.rollouts().rows().n_tokens()]);
    }
    let reference = batch.reference_logprobs(needed_by)?;
    let penalty =
        |old: &f32, reference: &f32| -f64::from(kl_coef) * f64::from(kl.value(*old, *reference));
    Ok(batch.old_logprobs().zip_with(reference, "reference_logprobs", penalty)?.into_values())
}
