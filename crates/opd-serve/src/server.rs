use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::Semaphore;

use crate::{
    Error, Options, Result, ServedModel, Worker, engine::Kept, metrics::Metrics, queue::Queue,
    wire::Rules,
};

/// A scoring server: takes requests over HTTP, and a [`Worker`] scores them.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}

/// What connections and worker have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: ServedModel,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) metrics: Metrics,
    pub(crate) kept: Kept,
    /// One permit for each request that is read, waits or is scored.
    pub(crate) requests: Arc<Semaphore>,
    /// One permit for each KiB of bodies.
    pub(crate) kibibytes: Arc<Semaphore>,
    pub(crate) stopping: AtomicBool,
    /// Seconds since 1970.
    pub(crate) started: u64,
}

impl Server {
    /// A server that does not listen yet.
    pub fn new(model: ServedModel, options: Options) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let permits = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        let kept = if options.share_prefixes { options.max_kept_bytes } else { 0 };
        let shared = Shared {
            kept: Kept::new(kept),
            requests: permits(options.limits.max_queue),
            kibibytes: permits(kibibytes(options.limits.max_queued_bytes)),
            model,
            options,
            queue: Queue::default(),
            metrics: Metrics::new(),
            stopping: AtomicBool::new(false),
            started,
        };
        Self { shared: Arc::new(shared) }
    }

    /// What scores the requests; run one on a thread of your choice.
    pub fn worker(&self) -> Worker {
        Worker::new(self.shared.clone())
    }

    /// Holds requests in the queue, or lets them be scored again.
    pub fn pause(&self, paused: bool) {
        self.shared.queue.pause(paused);
    }

    /// Requests that wait to be scored.
    pub fn queued(&self) -> usize {
        self.shared.queue.len()
    }

    /// Passes if this server may listen there: on a loopback address, or with a key.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub fn check_address(&self, address: SocketAddr) -> Result<()> {
        match &self.shared.options.key {
            None if !address.ip().is_loopback() => Err(Error::Open { address }),
            _ => Ok(()),
        }
    }
}

impl Shared {
    pub(crate) fn rules(&self) -> Rules<'_> {
        let model = &self.model;
        Rules::new(model.lm.config(), self.options.limits, model.tokenizer.as_ref())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Requests that are read, wait or are scored.
    pub(crate) fn in_flight(&self) -> usize {
        self.options.limits.max_queue.saturating_sub(self.requests.available_permits())
    }
}

pub(crate) fn kibibytes(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

/// A number that nobody can foresee.
pub(crate) fn fresh() -> u64 {
    RandomState::new().build_hasher().finish()
}
