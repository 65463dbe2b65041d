use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Semaphore,
    time::sleep,
};

use crate::{
    Error, Request, Result, Settings, Verdict,
    endpoint::Endpoint,
    exchange::{Failure, exchange},
    pool::Pool,
    trial::Trial,
};

/// Asks one or several servers of the same kind; cheap to clone, clones share everything.
///
/// Requests go to the endpoint with the fewest in flight. One that fails is sent again, to
/// another endpoint where there is one, as [`crate::Retry`] says; an endpoint that fails again
/// and again is left alone for a while, as [`crate::CircuitRules`] says.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Pool,
    slots: Semaphore,
    requests: AtomicU64,
    handle: Handle,
    /// Ends when the last clone of the client is dropped, on any thread.
    _runtime: Background,
}

/// An answer that the caller accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// What the caller made of it.
    pub value: T,
    /// Index of the endpoint that gave it.
    pub endpoint: usize,
    /// Attempts that it took.
    pub attempts: u32,
    /// What is wrong with it, where it was the best of [`Verdict::Incomplete`] ones.
    pub incomplete: Option<String>,
}

impl Client {
    /// A client of these servers, `http://HOST:PORT` or `https://HOST`; none is asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] or [`Error::Setup`].
    pub fn new<S: AsRef<str>>(urls: &[S], settings: Settings) -> Result<Self> {
        let endpoints: Vec<Endpoint> =
            urls.iter().map(|url| Endpoint::new(url.as_ref(), &settings)).collect::<Result<_>>()?;
        if endpoints.is_empty() {
            return Err(Error::Setup { what: "no server is named".to_owned() });
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("opd-http")
            .enable_all()
            .build()
            .map_err(|error| Error::Setup { what: error.to_string() })?;
        let handle = runtime.handle().clone();
        let slots = settings.in_flight.clamp(1, 1 << 16) * endpoints.len();
        Ok(Self(Arc::new(Shared {
            pool: Pool::new(endpoints, settings)?,
            slots: Semaphore::new(slots),
            requests: AtomicU64::new(0),
            handle,
            _runtime: Background(Some(runtime)),
        })))
    }

    /// Addresses of the servers, in the order given.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.pool.endpoints.iter().map(Endpoint::base)
    }

    /// Runs a future that uses this client and waits for it; callable from any thread.
    ///
    /// # Panics
    ///
    /// If the future does.
    pub fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        let handle = &self.0.handle;
        // A thread of its own: waiting is forbidden on one that another runtime drives.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| handle.block_on(future));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sends a request until an answer is accepted.
    ///
    /// `request` is called once there is room for it. With `near`, the endpoint of that index
    /// is preferred unless it is much busier than others: it may have cached what an earlier
    /// request had in common with this one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] or [`Error::Answer`] at once; [`Error::GaveUp`] or
    /// [`Error::Unreachable`] after all that [`crate::Retry`] allows.
    pub async fn send<T>(
        &self,
        near: Option<usize>,
        request: impl FnOnce() -> Request,
        judge: impl Fn(&[u8]) -> Verdict<T>,
    ) -> Result<Answer<T>> {
        let pool = &self.0.pool;
        // The semaphore is never closed.
        let _slot = self.0.slots.acquire().await;
        let request = request();
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        let seed = pool.settings.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        // A caller may quote an answer in which a server has sent the key back.
        let key = pool.settings.key.as_ref();
        let redacted = |why: String| match key {
            Some(key) => key.redact(&why),
            None => why,
        };
        let mut trial = Trial::<T>::default();
        let mut avoid = None;
        loop {
            let index = match pool.choose(near, avoid, seed).await {
                Ok(index) => index,
                Err(error) => return trial.best().ok_or(error),
            };
            let endpoint = || pool.endpoints[index].base().to_owned();
            let answer = pool.attempt(index, &request, seed).await;
            trial.count(&answer);
            let failure = match answer {
                Ok(body) => match judge(&body) {
                    Verdict::Accept(value) => return Ok(trial.answer(value, index, None)),
                    Verdict::Refuse(why) => {
                        return Err(Error::Answer { endpoint: endpoint(), why: redacted(why) });
                    }
                    Verdict::Retry(why) => Failure::Busy { why: redacted(why), retry_after: None },
                    Verdict::Incomplete(value, why) => {
                        let why = redacted(why);
                        trial.keep(value, why.clone(), index);
                        Failure::Unfit(why)
                    }
                },
                Err(Failure::Refused { status, said }) => {
                    return Err(Error::Refused { endpoint: endpoint(), status, said });
                }
                Err(failure) => failure,
            };
            if trial.ends(&failure, &pool.settings.retry) {
                return trial.best().ok_or_else(|| trial.given_up(endpoint()));
            }
            avoid = Some(index);
            sleep(trial.pause(&failure, &pool.settings.retry, seed)).await;
        }
    }

    /// Sends a request once, to the endpoint of this index, whatever its circuit says.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], or [`Error::GaveUp`] for everything else.
    pub async fn send_once(&self, endpoint: usize, request: &Request) -> Result<Bytes> {
        let pool = &self.0.pool;
        let base = pool.endpoints[endpoint].base();
        let (key, longest) = (pool.settings.key.as_ref(), pool.settings.timeout);
        let started = Instant::now();
        exchange(&pool.http, base, request, key, longest).await.map_err(|failure| {
            let endpoint = base.to_owned();
            match failure {
                Failure::Refused { status, said } => Error::Refused { endpoint, status, said },
                failure => {
                    let last = failure.why().to_owned();
                    Error::GaveUp { endpoint, attempts: 1, waited: started.elapsed(), last }
                }
            }
        })
    }
}

/// A runtime that may be dropped anywhere, on a thread of another runtime too.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
