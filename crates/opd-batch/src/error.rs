use std::error::Error as StdError;

/// What can be wrong with a batch or with what a teacher says of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A stream has the wrong number of values.
    #[error("{what}: expected {expected} values, got {got}")]
    Length {
        /// Which stream.
        what: &'static str,
        /// How many values its rows hold.
        expected: usize,
        /// How many there are.
        got: usize,
    },

    /// A stream of one rollout does not have one value per response token.
    #[error(
        "{what} of rollout {row}: expected {expected} values, one per response token, got {got}"
    )]
    RolloutLength {
        /// Which stream.
        what: &'static str,
        /// Index of the rollout.
        row: usize,
        /// Number of response tokens.
        expected: usize,
        /// Number of values.
        got: usize,
    },

    /// Two streams of one batch do not share their row boundaries.
    #[error("{what}: row boundaries differ from the batch's; build it with the batch's `Rows`")]
    Rows {
        /// The stream that does not fit.
        what: &'static str,
    },

    /// A batch without rollouts.
    #[error("the batch has no rollouts; sample at least one")]
    EmptyBatch,

    /// A prompt or response without tokens.
    #[error("{what} of rollout {row} is empty; drop the rollout before building the batch")]
    EmptySequence {
        /// `prompt`, `teacher_prompt` or `response`.
        what: &'static str,
        /// Index of the rollout.
        row: usize,
    },

    /// A log-prob, reward or advantage is NaN or infinite.
    #[error("{what}: {value} is not finite at row {row}, token {token}")]
    NotFinite {
        /// Which stream.
        what: &'static str,
        /// Row of the batch.
        row: usize,
        /// Token within the row's response.
        token: usize,
        /// The offending value.
        value: f32,
    },

    /// A log-prob above zero is no log-probability.
    #[error(
        "{what}: {value} at row {row}, token {token} is above 0; log-probs are natural logarithms of probabilities"
    )]
    PositiveLogprob {
        /// Which stream.
        what: &'static str,
        /// Row of the batch.
        row: usize,
        /// Token within the row's response.
        token: usize,
        /// The offending value.
        value: f32,
    },

    /// Spans that do not fit their scores.
    #[error(
        "spans: {what} at row {row}, token {token}; a span ends with `End`, and its tokens share one score"
    )]
    Span {
        /// What is wrong.
        what: &'static str,
        /// Row of the batch.
        row: usize,
        /// Token within the row's response.
        token: usize,
    },

    /// A row index outside the batch.
    #[error("row {row} is outside the batch of {n_rows} rows")]
    RowIndex {
        /// The index asked for.
        row: usize,
        /// Rows in the batch.
        n_rows: usize,
    },

    /// Something needs a stream that the batch was not given.
    #[error("{needed_by} needs {what}; {remedy}")]
    MissingStream {
        /// The estimator or loss.
        needed_by: &'static str,
        /// The stream.
        what: &'static str,
        /// How to get it.
        remedy: &'static str,
    },

    /// A teacher cannot give what was asked of it.
    #[error("teacher `{teacher}` cannot give {wanted}; {remedy}")]
    Unsupported {
        /// Name of the teacher.
        teacher: String,
        /// What was asked for.
        wanted: String,
        /// What to do instead.
        remedy: String,
    },

    /// A teacher backend failed.
    #[error("teacher `{teacher}` failed")]
    Teacher {
        /// Name of the teacher.
        teacher: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
