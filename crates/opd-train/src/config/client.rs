use std::time::Duration;

use opd_http::{Retry, Settings};
use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, check},
};

/// How servers are asked: `[distillation.client]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Requests in flight at a time, per server.
    pub in_flight: usize,
    /// Sequences of one prompt that one request holds at most.
    pub sequences_per_request: usize,
    /// Attempts of a request that may reach a server.
    pub attempts: u32,
    /// Longest time for one answer.
    pub timeout_seconds: f64,
    /// How long a failing request, or an outage of all servers, is waited out.
    pub patience_seconds: f64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let Settings { in_flight, timeout, retry, .. } = Settings::default();
        Self {
            in_flight,
            sequences_per_request: 16,
            attempts: retry.attempts,
            timeout_seconds: timeout.as_secs_f64(),
            patience_seconds: retry.patience.as_secs_f64(),
        }
    }
}

/// A day: longer waits are slips.
const DAY: f64 = 86_400.0;

impl ClientConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("distillation.client.in_flight", self.in_flight as u64)?;
        let per_request = self.sequences_per_request as u64;
        at_least_one("distillation.client.sequences_per_request", per_request)?;
        at_least_one("distillation.client.attempts", self.attempts)?;
        let (timeout, patience) = (self.timeout_seconds, self.patience_seconds);
        let (key, range) = ("distillation.client.timeout_seconds", "above 0 and at most a day");
        check(timeout > 0.0 && timeout <= DAY, key, range, timeout)?;
        let (key, range) = ("distillation.client.patience_seconds", "from 0 to a day");
        check((0.0..=DAY).contains(&patience), key, range, patience)
    }

    /// Settings of the client; the rest has its defaults.
    pub(crate) fn settings(&self) -> Settings {
        let patience = Duration::from_secs_f64(self.patience_seconds);
        Settings {
            in_flight: self.in_flight,
            timeout: Duration::from_secs_f64(self.timeout_seconds),
            retry: Retry { attempts: self.attempts, patience, ..Retry::default() },
            ..Settings::default()
        }
    }
}
