use crate::{Error, Result};

/// The range of a count.
pub(crate) const AT_LEAST_1: &str = "at least 1";

/// Passes if a coefficient is finite and not negative.
pub(crate) fn coefficient(estimator: &'static str, field: &'static str, value: f32) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::Setting { estimator, field, range: "finite and at least 0", value })
}

/// Passes if a discount is a fraction.
pub(crate) fn fraction(estimator: &'static str, field: &'static str, value: f32) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::Setting { estimator, field, range: "from 0 to 1", value })
}
