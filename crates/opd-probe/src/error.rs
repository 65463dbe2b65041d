/// Why a teacher cannot be probed at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server's address cannot be used.
    #[error(transparent)]
    Http(#[from] opd_http::Error),

    /// The teacher cannot be loaded.
    #[error(transparent)]
    Teacher(#[from] opd_teacher::Error),

    /// The student cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] opd_models::Error),

    /// The student cannot write samples to be scored.
    #[error("the student cannot write samples")]
    Samples(#[source] opd_rollout::Error),
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
