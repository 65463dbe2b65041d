use crate::{Error, Result};

/// Rounding may lift the log-prob of a certain token this far above 0.
const ROUNDING: f32 = 1e-4;

/// Passes if every value of row `row` is finite and, but for rounding, at most 0.
pub(crate) fn check_row(
    what: &'static str,
    row: usize,
    values: impl IntoIterator<Item = Option<f32>>,
) -> Result<()> {
    for (token, value) in values.into_iter().enumerate() {
        let Some(value) = value else { continue };
        if !value.is_finite() {
            return Err(Error::NotFinite { what, row, token, value });
        }
        if value > ROUNDING {
            return Err(Error::PositiveLogprob { what, row, token, value });
        }
    }
    Ok(())
}
