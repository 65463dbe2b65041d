/// Why a response cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A regular expression that is malformed or too big.
    #[error("the pattern {pattern:?} is no regular expression: {what}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong.
        what: String,
    },

    /// The server that judges.
    #[error("the server that judges responses")]
    Server(#[from] opd_http::Error),

    /// A rule of the user's own.
    #[error("judging a response")]
    Own(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
