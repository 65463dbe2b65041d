use std::{path::PathBuf, time::Duration};

use crate::ApiKey;

/// How servers are asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bearer key sent with every request.
    pub key: Option<ApiKey>,
    /// File of certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Requests in flight at a time, per endpoint; at least 1.
    pub in_flight: usize,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time from sending a request to the last byte of its answer.
    pub timeout: Duration,
    /// Path that tells whether a server is well, asked before a failing one is used again;
    /// without it the next request finds out.
    pub health: Option<String>,
    /// When to ask again.
    pub retry: Retry,
    /// When to stop asking for a while.
    pub circuit: CircuitRules,
    /// Fixes the random part of every delay.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: None,
            ca_file: None,
            in_flight: 32,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(180),
            health: None,
            retry: Retry::default(),
            circuit: CircuitRules::default(),
            seed: 0,
        }
    }
}

/// When a request is sent again: after connection errors, timeouts, broken answers, the
/// statuses 408, 429, 500, 502, 503 and 504, and where the caller says so.
///
/// ```text
/// delay_n = u_n * min(longest, first * 2^(n-1)),   u_n in [0.5, 1)
/// ```
///
/// A `Retry-After` of the server lengthens the delay, up to `longest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Attempts that may reach a server; at least 1. Connections that are never made do not
    /// count: `patience` bounds them.
    pub attempts: u32,
    /// Delay before the second attempt.
    pub first: Duration,
    /// Longest delay.
    pub longest: Duration,
    /// A request is given up this long after its first failure.
    pub patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 12,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            patience: Duration::from_secs(300),
        }
    }
}

/// When an endpoint that fails is left alone: its circuit opens.
///
/// The first pause lasts `pause`, each further one twice as long up to `longest`. After a
/// pause one request (or a look at [`Settings::health`]) tries; the circuit closes if it is
/// answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitRules {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// First pause.
    pub pause: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Default for CircuitRules {
    fn default() -> Self {
        Self { failures: 8, pause: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}
