use std::path::PathBuf;

use crate::DataPath;

/// Why prompts cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A row cannot be used.
    #[error("{}:{row}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line or row, from 1.
        row: u64,
        /// What is wrong and what was expected.
        what: String,
    },

    /// A file without prompts.
    #[error("{path}: no prompts; expected one JSON object a line, or a row of a Parquet file, for each{}", skipped(*bad))]
    NoPrompts {
        /// The file and its slice.
        path: DataPath,
        /// Rows that were skipped.
        bad: u64,
    },

    /// A Parquet file that cannot be decoded.
    #[error("{}: not a Parquet file that can be read: {what}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        what: String,
    },

    /// A file cannot be read.
    #[error("{}: cannot read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// A file that was changed after it was opened.
    #[error("{}:{row}: the file was changed while it was in use: {what}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Line or row, from 1.
        row: u64,
        /// How it showed.
        what: String,
    },
}

fn skipped(bad: u64) -> String {
    match bad {
        0 => String::new(),
        n => format!("; {n} bad rows were skipped"),
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
