//! What the client does with servers that fail, in time scaled down.
#![allow(clippy::unwrap_used, missing_docs)]

mod failover;
mod keys;
mod limits;
mod logged;
mod outage;
mod retries;
mod tls;

use std::time::Duration;

use opd_http::{Answer, CircuitRules, Client, Request, Result, Retry, Settings, Verdict};

/// Delays of milliseconds.
fn quick() -> Settings {
    Settings {
        timeout: Duration::from_millis(400),
        connect_timeout: Duration::from_millis(400),
        retry: Retry {
            first: Duration::from_millis(2),
            longest: Duration::from_millis(20),
            patience: Duration::from_secs(20),
            ..Retry::default()
        },
        circuit: CircuitRules {
            pause: Duration::from_millis(10),
            longest: Duration::from_millis(50),
            ..CircuitRules::default()
        },
        ..Settings::default()
    }
}

/// A number, or torn.
fn number(body: &[u8]) -> Verdict<u64> {
    match serde_json::from_slice(body) {
        Ok(number) => Verdict::Accept(number),
        Err(error) => Verdict::Retry(error.to_string()),
    }
}

fn ask(client: &Client, n: u64) -> Result<Answer<u64>> {
    client.run(client.send(None, || Request::post("/echo", n.to_string()), number))
}
