/// Why a loss could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The batch is wrong.
    #[error(transparent)]
    Batch(#[from] opd_batch::Error),

    /// A kernel refused its input.
    #[error(transparent)]
    Kernel(#[from] opd_kernels::Error),

    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// There is nothing to train on.
    #[error(
        "none of the batch's {tokens} tokens is trained on; look at the loss masks and at the \
         teacher's missing scores"
    )]
    AllMasked {
        /// Tokens in the batch.
        tokens: usize,
    },

    /// A tensor that must carry a gradient is detached: training on it would change nothing.
    #[error(
        "{what} carries no graph, so backward would train nothing; compute it from the model's \
         variables without `detach`, and without candle ops that have no backward"
    )]
    NoGradient {
        /// The tensor.
        what: &'static str,
    },

    /// A tensor has the wrong shape.
    #[error("{what} must be {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        what: &'static str,
        /// The shape it must have.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },

    /// A value that is trained on is NaN or infinite.
    #[error("{what}: {value} is not finite at row {row}, token {token}")]
    NotFinite {
        /// Which value.
        what: &'static str,
        /// Row of the whole batch.
        row: usize,
        /// Token within the row's response.
        token: usize,
        /// The offending value.
        value: f64,
    },

    /// A scalar setting outside its range.
    #[error("{what} must be {expected}, got {got}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        got: f64,
    },

    /// A combination that would silently train something else than it says.
    #[error("{what} is refused: {reason}; {remedy}")]
    Refused {
        /// The combination.
        what: &'static str,
        /// Why.
        reason: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },

    /// An objective needs the teacher's hidden states and head.
    #[error(
        "{objective} compares whole distributions and got no teacher states; use a teacher that \
         runs in process, or an objective on sampled tokens"
    )]
    MissingTeacher {
        /// The objective.
        objective: &'static str,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
