use std::time::Instant;

use tokio::sync::oneshot;

use super::fault::Fault;
use crate::{Item, Scored, queue::Job, server::Shared};

/// Queues items and waits for their scores.
pub(super) async fn submit(shared: &Shared, items: Vec<Item>) -> Result<Vec<Scored>, Fault> {
    let (reply, scored) = oneshot::channel();
    let job = Job { items, reply, since: Instant::now() };
    shared.queue.push(job).map_err(|_| Fault::unavailable("The server has shut down."))?;
    match scored.await {
        Ok(Ok(scored)) => Ok(scored),
        Ok(Err(error)) => Err(Fault::internal(error)),
        Err(_) => Err(Fault::unavailable("The server has shut down.")),
    }
}
