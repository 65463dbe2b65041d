use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::{Item, Scored};

/// Items of one request, and where their scores are awaited.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) items: Vec<Item>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Scored>, String>>,
    pub(crate) since: Instant,
}

impl Job {
    fn tokens(&self) -> usize {
        self.items.iter().map(|item| item.tokens.len()).sum()
    }
}

/// Jobs that wait for the worker; how many is bounded where requests are let in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
    paused: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the job back if the queue is closed.
    pub(crate) fn push(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(job);
        }
        waiting.jobs.push_back(job);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for jobs; takes those that came first, of at most `tokens` tokens, but at least
    /// one. `None` once the queue is closed and empty.
    pub(crate) fn take(&self, tokens: usize) -> Option<Vec<Job>> {
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() || waiting.paused {
            if waiting.closed && waiting.jobs.is_empty() {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        let mut sum = 0;
        while let Some(job) = waiting.jobs.front() {
            sum += job.tokens();
            if !taken.is_empty() && sum > tokens {
                break;
            }
            taken.extend(waiting.jobs.pop_front());
        }
        Some(taken)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Takes no more jobs; those inside are still given out.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        (waiting.closed, waiting.paused) = (true, false);
        self.changed.notify_all();
    }

    /// Holds jobs back, or gives them out again.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NamedIds, NextToken};

    fn job(tokens: usize) -> Job {
        let item = Item {
            tokens: vec![0; tokens],
            start: 0,
            temperature: 1.0,
            top: 0,
            named: NamedIds::None,
            rank: false,
            next: NextToken::Ignored,
        };
        Job { items: vec![item], reply: oneshot::channel().0, since: Instant::now() }
    }

    #[test]
    fn what_is_queued_is_taken_in_order_up_to_the_budget() {
        let queue = Queue::default();
        for tokens in [50, 3, 4, 5] {
            queue.push(job(tokens)).unwrap();
        }
        let take = || -> Vec<usize> { queue.take(10).unwrap().iter().map(Job::tokens).collect() };
        assert_eq!([take(), take(), take()], [vec![50], vec![3, 4], vec![5]]);
        queue.push(job(1)).unwrap();
        queue.close();
        assert!(queue.push(job(1)).is_err());
        assert_eq!(queue.take(10).unwrap().len(), 1);
        assert!(queue.take(10).is_none());
    }
}
