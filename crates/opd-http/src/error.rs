use std::{path::PathBuf, time::Duration};

/// Why a server could not be asked, or gave no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL of an endpoint.
    #[error("`{url}` is no address of a server: {what}; write http://HOST:PORT or https://HOST")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        what: String,
    },

    /// The client cannot be built.
    #[error("the HTTP client cannot be set up: {what}")]
    Setup {
        /// What failed.
        what: String,
    },

    /// An environment variable that should hold a key.
    #[error(
        "environment variable {variable} holds no key: {what}; set it, or name another variable"
    )]
    KeyVariable {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        what: &'static str,
    },

    /// A file that should hold a key.
    #[error("{}: no key can be read from it: {what}; the file must hold the key alone", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// The server said no; asking again would not help.
    #[error("{endpoint} refused the request with status {status}: {said}{}", remedy(*status))]
    Refused {
        /// Address of the server.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// What it said, cut short.
        said: String,
    },

    /// The answer cannot be used, and asking again would not help.
    #[error("{endpoint} gave an answer that cannot be used: {why}")]
    Answer {
        /// Address of the server.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },

    /// A request was tried as often or as long as allowed.
    #[error("{endpoint} gave no usable answer in {attempts} attempts over {:.1} s; the last: {last}", waited.as_secs_f64())]
    GaveUp {
        /// Address of the server asked last.
        endpoint: String,
        /// Attempts that reached a server.
        attempts: u32,
        /// From the first failure on.
        waited: Duration,
        /// What went wrong last.
        last: String,
    },

    /// No server can be reached, and has not been for longer than the patience.
    #[error("circuit open: no answer from {endpoints} for {:.1} s, so it is not asked for now; the last failure: {last}", down.as_secs_f64())]
    Unreachable {
        /// Addresses of the servers.
        endpoints: String,
        /// Since when the last of them has been failing.
        down: Duration,
        /// What went wrong last.
        last: String,
    },
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the server or the way to it failed, rather than the request or the settings.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::GaveUp { .. } | Self::Unreachable { .. })
    }
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "; name the key's environment variable or file",
        404 => "; is this the right server, path and model name?",
        _ => "",
    }
}
