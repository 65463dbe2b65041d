use std::{
    error::Error as StdError,
    io,
    path::{Path, PathBuf},
};

/// What can go wrong with a run's directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory that holds something, where a new run was to start.
    #[error(
        "`{}` already holds {entry}; go on with `--resume {0}`, replace it with `--overwrite`, or \
         choose another directory with `--output`",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Something in it.
        entry: String,
    },

    /// Another process works on the run.
    #[error(
        "`{}` is in use by {}; wait for it, stop it, or choose another directory with `--output`",
        path.display(),
        holder(*pid)
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock, if it has said so.
        pid: Option<u32>,
    },

    /// A directory that is no run's, where a run was to be resumed or replaced.
    #[error("`{}` is not a run directory: {reason}", path.display())]
    NotARun {
        /// The directory.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },

    /// A directory or file that may not be written.
    #[error(
        "cannot write `{}`: it is read-only or belongs to somebody else; choose another directory \
         with `--output` or change its permissions",
        path.display()
    )]
    NotWritable {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },

    /// A full disk.
    #[error(
        "no space left on the disk of `{}`; free some (or keep fewer checkpoints), then go on with \
         `--resume`: what was saved before is intact",
        path.display()
    )]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// The failure.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    /// Any other failure of the file system.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },

    /// The caller's part of a checkpoint failed.
    #[error("cannot write the checkpoint of step {step} in `{}`", path.display())]
    Checkpoint {
        /// The step.
        step: u64,
        /// Where it was being written; removed since.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A checkpoint whose files are not those that were saved.
    #[error("the checkpoint `{}` is damaged: {reason}", path.display())]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// No checkpoint of a step.
    #[error("`{}` holds no checkpoint of step {step}; it holds {}", path.display(), steps(held))]
    NoCheckpoint {
        /// The directory of checkpoints.
        path: PathBuf,
        /// The step asked for.
        step: u64,
        /// The steps there are.
        held: Vec<u64>,
    },

    /// A file that is not JSON of the expected form.
    #[error("`{}` is not what a run writes", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },

    /// Metrics of a step that is not after the last one.
    #[error(
        "metrics of step {step} after those of step {last} in `{}`; steps must increase",
        path.display()
    )]
    StepOrder {
        /// The metrics file.
        path: PathBuf,
        /// The step that was given.
        step: u64,
        /// The last step in the file.
        last: u64,
    },

    /// A sink of metrics failed.
    #[error("the metric sink `{name}` failed")]
    Sink {
        /// Which one.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A number that is out of its range.
    #[error("{what} is {value}; expected {expected}")]
    Range {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failed write, told apart by its cause.
    pub(crate) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            kind if is_full_kind(kind) => Self::Full { path, source: source.into() },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, source }
            }
            _ => Self::Io { action: "write", path, source },
        }
    }

    /// A failed read.
    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        Self::Io { action: "read", path: path.to_owned(), source }
    }
}

fn is_full_kind(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether a full disk is at the bottom of `error`.
///
/// Transparent wrappers leave the `io::Error` out of the chain; their text still ends with
/// the number of the operating system's error.
pub(crate) fn is_full(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| is_full_kind(error.kind())) {
            return true;
        }
        next = error.source();
    }
    cfg!(unix) && error.to_string().contains("(os error 28)")
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn steps(held: &[u64]) -> String {
    match held {
        [] => "none".to_owned(),
        _ => held.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    }
}
