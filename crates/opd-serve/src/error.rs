use std::{net::SocketAddr, path::PathBuf};

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Other machines would reach a server without a key.
    #[error(
        "{address} can be reached from other machines: give the server a key (--api-key-env or --api-key-file), or listen on 127.0.0.1"
    )]
    Open {
        /// Where it was to listen.
        address: SocketAddr,
    },

    /// The address is taken or not this machine's.
    #[error("{address}: cannot listen there")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// A key that protects nothing.
    #[error("{place}: {what}")]
    Key {
        /// The file or variable.
        place: String,
        /// What is wrong with it.
        what: String,
    },

    /// A file cannot be read.
    #[error("{}: cannot read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// Threads or timers are not to be had.
    #[error("cannot start the server's threads")]
    Threads(#[source] std::io::Error),

    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] opd_models::Error),

    /// A kernel refused its input.
    #[error(transparent)]
    Kernel(#[from] opd_kernels::Error),

    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// The model's numbers are no log-probs.
    #[error(
        "the model gives a log-prob that is not finite at token {token}; its weights are damaged"
    )]
    NotFinite {
        /// The token that the position predicts, from the start of its sequence.
        token: usize,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
