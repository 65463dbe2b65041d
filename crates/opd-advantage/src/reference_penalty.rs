use opd_batch::{KlEstimator, ScoredBatch};

use crate::Result;

/// `-kl_coef * k_t` of every packed token, `k` being `kl` of (old, reference), in nats.
///
/// All zero, and no reference log-probs needed, if `kl_coef` is 0. A KL that overflows is an
/// error here, at its own token, before sums carry it to others.
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
    let estimate = |old: &f32, reference: &f32| kl.value(*old, *reference);
    let kls = batch.old_logprobs().zip_with(reference, "reference_logprobs", estimate)?;
    kls.check_finite("KL to the reference")?;
    Ok(kls.values().iter().map(|&kl| -f64::from(kl_coef) * f64::from(kl)).collect())
}
