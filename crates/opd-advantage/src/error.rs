use std::error::Error as StdError;

/// Why an estimator gave no advantages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The batch lacks a stream, a stream has other rows, or an advantage is not finite.
    #[error(transparent)]
    Batch(#[from] opd_batch::Error),

    /// A setting is outside its range.
    #[error("{estimator}: `{field}` must be {range}, got {value}")]
    Setting {
        /// The estimator whose setting it is.
        estimator: &'static str,
        /// The setting.
        field: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it is.
        value: f32,
    },

    /// Whitening has no token to take a mean of.
    #[error(
        "Whitened: none of the {n_tokens} tokens in {n_rows} rows has mask 1, so there is no mean \
         to take away; check the loss mask and the teacher's missing scores, or skip this batch"
    )]
    AllMasked {
        /// Rows in the batch.
        n_rows: usize,
        /// Response tokens in the batch.
        n_tokens: usize,
    },

    /// An estimator from outside this crate failed for a reason of its own.
    #[error("estimator `{estimator}` failed")]
    Estimator {
        /// Name of the estimator.
        estimator: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
