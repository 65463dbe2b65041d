use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Certificate, redirect};
use tokio::{sync::Notify, time::timeout};

use crate::{
    Error, Request, Result, Settings,
    circuit::Entry,
    endpoint::Endpoint,
    exchange::{Failure, exchange},
};

/// Idle connections are dropped before the 5 seconds after which common servers drop them.
const IDLE: Duration = Duration::from_secs(4);

/// Longest time for a server to say that it is well.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a waiting request sleeps before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Requests by which an endpoint that knows a prompt may be busier than the least busy.
const NEARNESS: usize = 4;

/// The endpoints of a client, and which of them is asked.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) settings: Settings,
    pub(crate) http: reqwest::Client,
    changed: Notify,
}

impl Pool {
    pub(crate) fn new(endpoints: Vec<Endpoint>, settings: Settings) -> Result<Self> {
        let http = http(&settings)?;
        Ok(Self { endpoints, settings, http, changed: Notify::new() })
    }

    /// The endpoint to ask now; waits while all circuits are open.
    pub(crate) async fn choose(
        &self,
        near: Option<usize>,
        avoid: Option<usize>,
        seed: u64,
    ) -> Result<usize> {
        loop {
            let now = Instant::now();
            let mut until = now + LOOK_AGAIN;
            for (index, endpoint) in self.endpoints.iter().enumerate() {
                if endpoint.circuit.is_closed() {
                    continue;
                }
                match endpoint.circuit.enter(now) {
                    Entry::Wait(time) => until = until.min(time),
                    Entry::Go => return Ok(index),
                    Entry::Probe if self.is_well(index, seed).await => return Ok(index),
                    Entry::Probe => {}
                }
            }
            if let Some(index) = self.least_busy(near, avoid) {
                return Ok(index);
            }
            let down = self.endpoints.iter().map(|endpoint| endpoint.circuit.down(now));
            if let Some(down) = down.collect::<Option<Vec<_>>>()
                && let Some((shortest, last)) = down.into_iter().min()
                && shortest >= self.settings.retry.patience
            {
                let bases: Vec<&str> = self.endpoints.iter().map(Endpoint::base).collect();
                let endpoints = bases.join(", ");
                return Err(Error::Unreachable { endpoints, down: shortest, last });
            }
            let pause = until.saturating_duration_since(now).max(Duration::from_millis(1));
            // Whoever closes a circuit wakes the others; the time limit covers a missed call.
            let _ = timeout(pause, self.changed.notified()).await;
        }
    }

    /// Among closed circuits: near and not too busy, else the least busy; another than `avoid`
    /// where there is one.
    fn least_busy(&self, near: Option<usize>, avoid: Option<usize>) -> Option<usize> {
        let closed = || {
            let all = self.endpoints.iter().enumerate();
            all.filter(|(_, endpoint)| endpoint.circuit.is_closed())
        };
        let (least, endpoint) =
            closed().min_by_key(|(index, endpoint)| (Some(*index) == avoid, endpoint.load()))?;
        let room = endpoint.load() + NEARNESS;
        let near = near.filter(|&near| Some(near) != avoid);
        let near = near.and_then(|near| closed().find(|&(index, _)| index == near));
        Some(near.filter(|(_, near)| near.load() <= room).map_or(least, |(index, _)| index))
    }

    /// Looks whether a failing endpoint is well again; without a path for it, the next request
    /// finds out.
    async fn is_well(&self, index: usize, seed: u64) -> bool {
        let endpoint = &self.endpoints[index];
        let Some(path) = &self.settings.health else { return true };
        let abandon = Abandon(endpoint);
        let request = Request::get(path.as_str());
        let (key, longest) = (self.settings.key.as_ref(), HEALTH_TIMEOUT);
        let longest = longest.min(self.settings.timeout);
        let answer = exchange(&self.http, endpoint.base(), &request, key, longest).await;
        std::mem::forget(abandon);
        match answer {
            Err(failure) if failure.is_outage() => {
                self.failed(index, failure.why(), seed);
                false
            }
            // A server without this path is there all the same.
            _ => {
                self.succeeded(index);
                true
            }
        }
    }

    /// One attempt; the circuit hears of its result.
    pub(crate) async fn attempt(
        &self,
        index: usize,
        request: &Request,
        seed: u64,
    ) -> std::result::Result<Bytes, Failure> {
        let endpoint = &self.endpoints[index];
        let _occupied = endpoint.occupy();
        let abandon = Abandon(endpoint);
        let (key, longest) = (self.settings.key.as_ref(), self.settings.timeout);
        let answer = exchange(&self.http, endpoint.base(), request, key, longest).await;
        std::mem::forget(abandon);
        match &answer {
            Err(failure) if failure.is_outage() => self.failed(index, failure.why(), seed),
            _ => self.succeeded(index),
        }
        answer
    }

    fn succeeded(&self, index: usize) {
        let endpoint = &self.endpoints[index];
        if let Some(down) = endpoint.circuit.success(Instant::now()) {
            let (base, seconds) = (endpoint.base(), down.as_secs_f64());
            tracing::info!("{base} answers again after {seconds:.1} s");
            self.changed.notify_waiters();
        }
    }

    fn failed(&self, index: usize, why: &str, seed: u64) {
        let endpoint = &self.endpoints[index];
        if let Some(pause) = endpoint.circuit.failure(Instant::now(), why, seed) {
            let (base, seconds) = (endpoint.base(), pause.as_secs_f64());
            tracing::warn!(
                "circuit open: {base} keeps failing, it is not asked for {seconds:.1} s; the last failure: {why}"
            );
            self.changed.notify_waiters();
        }
    }
}

/// Gives a probe back if its request goes away.
struct Abandon<'a>(&'a Endpoint);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.circuit.abandon();
    }
}

fn http(settings: &Settings) -> Result<reqwest::Client> {
    let setup = |what: String| Error::Setup { what };
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been quicker, with the same effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("opd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.in_flight)
        .redirect(redirect::Policy::none())
        .no_proxy();
    if let Some(path) = &settings.ca_file {
        let bad = |what: String| setup(format!("{}: {what}", path.display()));
        let pem = fs::read(path).map_err(|error| bad(error.to_string()))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| setup(error.to_string()))
}
