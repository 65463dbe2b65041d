use std::{io, path::PathBuf};

/// What can go wrong while the job's files are written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder or file could not be read, written or renamed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },

    /// A file of another content is in the way.
    #[error(
        "`{}` exists and is not the file of the bundled job; choose an empty directory, or remove it",
        path.display()
    )]
    Occupied {
        /// The file that was left as it is.
        path: PathBuf,
    },

    /// More rows were asked for than a split has prompts.
    #[error("{file}: {asked} rows asked for, but the split has {available} prompts; ask for fewer")]
    TooFewPrompts {
        /// Which file.
        file: &'static str,
        /// Rows asked for.
        asked: usize,
        /// Prompts in the split.
        available: usize,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
