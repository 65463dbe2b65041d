use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{Item, Result, engine::Engine, queue::Job, server::Shared};

/// Batches of this many times the token budget are taken from the queue at once, so that
/// sequences with a prefix in common meet.
const BUDGETS_AT_ONCE: usize = 4;

/// Scores what a [`Server`](crate::Server) takes in.
///
/// It runs on one thread of the caller's choice; the kernels spread its work over rayon's.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the server has shut down and its queue is empty.
    ///
    /// # Errors
    ///
    /// If there is no memory for the cache. What goes wrong with a request is said to it.
    pub fn run(&self) -> Result<()> {
        // Whoever waits gets an answer even if this thread gives up.
        let _close = CloseOnDrop(&self.shared);
        let options = &self.shared.options;
        let budget = options.max_batch_tokens;
        let mut engine = Engine::new(&self.shared.model.lm, options, &self.shared.kept)?;
        while let Some(jobs) = self.shared.queue.take(budget.saturating_mul(BUDGETS_AT_ONCE)) {
            self.score(&mut engine, jobs);
        }
        Ok(())
    }

    fn score(&self, engine: &mut Engine<'_>, jobs: Vec<Job>) {
        let jobs: Vec<Job> = jobs.into_iter().filter(|job| !job.reply.is_closed()).collect();
        let items: Vec<&Item> = jobs.iter().flat_map(|job| &job.items).collect();
        for job in &jobs {
            self.shared.metrics.waited(job.since.elapsed());
        }
        let scored = catch_unwind(AssertUnwindSafe(|| engine.score(&items)));
        let scored = match scored {
            Ok(Ok((scored, computed))) => {
                let tokens = items.iter().map(|item| item.tokens.len()).sum();
                let shared = scored.iter().map(|scored| scored.shared).sum();
                self.shared.metrics.scored(items.len(), tokens, computed, shared);
                Ok(scored)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the forward panicked; the server's log says where".to_owned()),
        };
        // A client that has gone is no error.
        match scored {
            Ok(scored) => {
                let mut scored = scored.into_iter();
                for job in jobs {
                    let own = scored.by_ref().take(job.items.len()).collect();
                    let _ = job.reply.send(Ok(own));
                }
            }
            Err(error) => {
                tracing::error!("scoring failed: {error}");
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
        drop(self.0.queue.take(usize::MAX));
    }
}
