/// A setting that cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value outside its range.
    #[error("{key} must be {expected}, got {got}")]
    Range {
        /// Where in the configuration, e.g. `rollout.temperature`.
        key: &'static str,
        /// The range.
        expected: &'static str,
        /// The value.
        got: String,
    },

    /// A setting that is needed and not given.
    #[error("{key} is not set; {remedy}")]
    Missing {
        /// Where in the configuration.
        key: &'static str,
        /// What to do.
        remedy: &'static str,
    },

    /// Settings that exclude each other, or train something else than they say.
    #[error("{what}; {remedy}")]
    Conflict {
        /// Which settings, and why they do not go together.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl ConfigError {
    /// A teacher that scores at temperature 1, for samples at another.
    pub(crate) fn temperature(teacher: &str, temperature: f64) -> Self {
        Self::Conflict {
            what: format!(
                "samples are drawn at temperature {temperature}, and teacher `{teacher}` scores at temperature 1 only: the KL between them would be biased"
            ),
            remedy: "sample at 1 (--rollout-temperature 1), serve the teacher with `opd serve` (--opd-type sglang), load it in this process (--opd-type in-process), or take the bias knowingly with --opd-accept-temperature-bias",
        }
    }
}

pub(crate) fn check(
    holds: bool,
    key: &'static str,
    expected: &'static str,
    got: impl ToString,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Range { key, expected, got: got.to_string() }) }
}

pub(crate) fn at_least_one(key: &'static str, got: impl Into<u64>) -> Result<(), ConfigError> {
    let got = got.into();
    check(got > 0, key, "at least 1", got)
}

/// For numbers that must be finite and at least 0.
pub(crate) fn non_negative(key: &'static str, got: f64) -> Result<(), ConfigError> {
    check(got >= 0.0 && got.is_finite(), key, "finite and at least 0", got)
}
