use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Error, Result};

/// Keeps the quotient finite where all advantages are equal.
const EPSILON: f64 = 1e-8;

/// Whitens another estimator's advantages over the batch; made by
/// [`AdvantageEstimator::whitened`].
///
/// ```text
/// mean = sum_t m_t A_t / n,   n = sum_t m_t
/// var  = sum_t m_t (A_t - mean)^2 / (n - 1)     (0 where n = 1)
/// A_t <- (A_t - mean) / sqrt(var + 1e-8)
/// ```
///
/// The result is a pure number. `m` is [`ScoredBatch::mask`]; tokens outside it are moved and
/// scaled like the others but count in neither mean nor variance. The batch must be the whole
/// batch of the step: whitened parts are not parts of the whitened whole.
///
/// Whitening pure distillation cancels the coefficient of the signal.
///
/// Source: Huang et al. 2024, The N+ Implementation Details of RLHF with PPO,
/// <https://arxiv.org/abs/2403.17031>; Bessel's correction as in `masked_whiten` of verl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whitened<E> {
    inner: E,
}

impl<E> Whitened<E> {
    pub(crate) fn new(inner: E) -> Self {
        Self { inner }
    }
}

impl<E: AdvantageEstimator> AdvantageEstimator for Whitened<E> {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let inner = self.inner.advantages(batch)?;
        inner.check_rows(batch.rollouts().rows(), "advantages to be whitened")?;
        let masked = || {
            let tokens = inner.values().iter().zip(batch.mask().values());
            tokens.filter(|&(_, &mask)| mask).map(|(&value, _)| f64::from(value))
        };
        let n = masked().count();
        if n == 0 {
            let rows = inner.rows();
            return Err(Error::AllMasked { n_rows: rows.n_rows(), n_tokens: rows.n_tokens() });
        }
        let mean = masked().sum::<f64>() / n as f64;
        let squares: f64 = masked().map(|value| (value - mean).powi(2)).sum();
        let variance = squares / (n - 1).max(1) as f64;
        let scale = 1.0 / (variance + EPSILON).sqrt();
        let whitened = inner.map(|&value| ((f64::from(value) - mean) * scale) as f32);
        whitened.check_finite("advantages of Whitened")?;
        Ok(whitened)
    }

    fn validate(&self) -> Result<()> {
        self.inner.validate()
    }
}
