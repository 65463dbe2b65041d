use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::sync::{Semaphore, watch};

use crate::{Error, Result, Server, http::router, server::Shared};

/// Threads that a server reads and writes with.
const THREADS: usize = 2;

/// Time that clients have to take their answers once the server stops.
const FAREWELL: Duration = Duration::from_secs(30);

/// A server that listens, on threads of its own; stop it, or drop it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// Stops a running server from another thread.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Takes no more requests, finishes those taken, then lets the worker return.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Running {
    /// Listens on `address`; port 0 is a free one. Nothing is scored before a
    /// [`Worker`](crate::Worker) runs.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::Listen`] or [`Error::Threads`].
    pub fn start(server: &Server, address: SocketAddr) -> Result<Self> {
        server.check_address(address)?;
        let listener = TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| Error::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("opd-serve")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        let (stop, stopped) = watch::channel(false);
        let shared = server.shared.clone();
        let thread = std::thread::Builder::new()
            .name("opd-serve-listen".into())
            .spawn(move || {
                if let Err(error) = runtime.block_on(listen(&shared, listener, stopped)) {
                    tracing::error!("the server cannot go on: {error}");
                }
                shared.queue.close();
                runtime.shutdown_timeout(Duration::from_secs(1));
            })
            .map_err(Error::Threads)?;
        Ok(Self { address, stop: Stop(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to stop it with.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Stops it and waits until all that it took is answered; a worker must be running.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // It logs why it ended.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish();
    }
}

async fn listen(
    shared: &Arc<Shared>,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(shared.clone());
    let connections = Arc::new(Semaphore::new(shared.options.limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(shared.options.limits.read_timeout);
    loop {
        let permit = connections.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file handles, or a client that left at once.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Small answers must not wait for the client's acknowledgement.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What a client does wrong on its connection ends that connection alone.
            let _ = connection.await;
            drop(permit);
        });
    }
    shared.stopping.store(true, Ordering::Relaxed);
    shared.queue.pause(false);
    drop(listener);
    let all = shared.options.limits.max_queue as u32;
    let answered = async {
        let _ = shared.requests.acquire_many(all).await;
        let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
    };
    answered.await;
    Ok(())
}
