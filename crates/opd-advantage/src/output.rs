use opd_batch::{Ragged, ScoredBatch};

use crate::Result;

/// One value per packed token, rounded to `f32`; `what` names the result in errors.
pub(crate) fn per_token(
    batch: &ScoredBatch<'_>,
    values: impl IntoIterator<Item = f64>,
    what: &'static str,
) -> Result<Ragged<f32>> {
    let values = values.into_iter().map(|value| value as f32).collect();
    let stream = Ragged::new(what, batch.rollouts().rows().clone(), values)?;
    stream.check_finite(what)?;
    Ok(stream)
}

/// One value per row, repeated for each of its tokens.
pub(crate) fn per_row(
    batch: &ScoredBatch<'_>,
    values: impl IntoIterator<Item = f64>,
    what: &'static str,
) -> Result<Ragged<f32>> {
    let lengths = batch.rollouts().rows().lengths();
    let tokens = values.into_iter().zip(lengths);
    per_token(batch, tokens.flat_map(|(value, n)| std::iter::repeat_n(value, n)), what)
}
