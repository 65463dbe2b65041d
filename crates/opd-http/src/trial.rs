use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{Answer, Error, Retry, backoff, exchange::Failure};

/// What a request has gone through.
#[derive(Debug)]
pub(crate) struct Trial<T> {
    attempts: u32,
    failures: u32,
    first_failure: Option<Instant>,
    last: String,
    /// Value, what is wrong with it, endpoint.
    best: Option<(T, String, usize)>,
}

impl<T> Default for Trial<T> {
    fn default() -> Self {
        Self { attempts: 0, failures: 0, first_failure: None, last: String::new(), best: None }
    }
}

impl<T> Trial<T> {
    /// Counts an attempt that reached a server.
    pub(crate) fn count(&mut self, answer: &Result<Bytes, Failure>) {
        if !matches!(answer, Err(Failure::NotReached(_))) {
            self.attempts += 1;
        }
    }

    /// Keeps an answer that is better than none.
    pub(crate) fn keep(&mut self, value: T, why: String, endpoint: usize) {
        self.best = Some((value, why, endpoint));
    }

    /// Notes a failure; whether it was the last that is allowed.
    pub(crate) fn ends(&mut self, failure: &Failure, retry: &Retry) -> bool {
        let first = *self.first_failure.get_or_insert_with(Instant::now);
        self.failures += 1;
        failure.why().clone_into(&mut self.last);
        self.attempts >= retry.attempts.max(1) || first.elapsed() >= retry.patience
    }

    /// How long to wait after the last failure.
    pub(crate) fn pause(&self, failure: &Failure, retry: &Retry, seed: u64) -> Duration {
        let step = match failure {
            // The server is well: there is nothing to wait for.
            Failure::Unfit(_) => 1,
            _ => self.failures,
        };
        let seed = seed.wrapping_add(u64::from(self.failures));
        let delay = backoff::delay(retry.first, retry.longest, step, seed);
        match failure {
            Failure::Busy { retry_after: Some(asked), .. } => delay.max(*asked).min(retry.longest),
            _ => delay,
        }
    }

    pub(crate) fn given_up(&self, endpoint: String) -> Error {
        let waited = self.first_failure.map_or(Duration::ZERO, |first| first.elapsed());
        Error::GaveUp { endpoint, attempts: self.attempts, waited, last: self.last.clone() }
    }

    pub(crate) fn answer(
        &self,
        value: T,
        endpoint: usize,
        incomplete: Option<String>,
    ) -> Answer<T> {
        Answer { value, endpoint, attempts: self.attempts, incomplete }
    }

    pub(crate) fn best(&mut self) -> Option<Answer<T>> {
        let (value, why, endpoint) = self.best.take()?;
        Some(self.answer(value, endpoint, Some(why)))
    }
}
