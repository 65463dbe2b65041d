use std::time::Duration;

use crate::Key;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests without it get 401, but for `/health`.
    pub key: Option<Key>,
    /// What a request may ask for.
    pub limits: Limits,
    /// Tokens that one forward computes at most.
    pub max_batch_tokens: usize,
    /// Whether tokens that sequences begin with in common are computed once.
    pub share_prefixes: bool,
    /// Bytes of keys and values of beginnings that are kept between forwards, for sequences that
    /// come later; 0 for none. Nothing is kept where prefixes are not shared.
    pub max_kept_bytes: usize,
}

impl Default for Options {
    /// No key, forwards of 4,096 tokens, shared prefixes of which 256 MiB are kept.
    fn default() -> Self {
        Self {
            key: None,
            limits: Limits::default(),
            max_batch_tokens: 4096,
            share_prefixes: true,
            max_kept_bytes: 256 << 20,
        }
    }
}

/// What a server takes before it refuses; memory is bounded by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are read, wait or are scored at one time; more get 503.
    pub max_queue: usize,
    /// Bytes of a request's body; more gets 413.
    pub max_body_bytes: usize,
    /// Bytes of the bodies of all requests that are taken; more gets 503.
    pub max_queued_bytes: usize,
    /// Sequences of a request.
    pub max_sequences: usize,
    /// Entries (log-probs with their ids) that a request's answer may hold.
    pub max_entries: usize,
    /// Connections that are open at one time.
    pub max_connections: usize,
    /// Time that a client has to send a request.
    pub read_timeout: Duration,
}

impl Default for Limits {
    /// 1,024 requests of 16 MiB, 256 MiB together, 4,096 sequences, 4 million entries.
    fn default() -> Self {
        Self {
            max_queue: 1024,
            max_body_bytes: 16 << 20,
            max_queued_bytes: 256 << 20,
            max_sequences: 4096,
            max_entries: 4 << 20,
            max_connections: 4096,
            read_timeout: Duration::from_secs(60),
        }
    }
}
