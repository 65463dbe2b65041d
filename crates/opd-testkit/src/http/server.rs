use std::{
    fmt,
    io::BufReader,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{HttpRequest, Reply};

type Handler = dyn Fn(&HttpRequest) -> Reply + Send + Sync;

/// A server on a free port of 127.0.0.1, a thread per connection.
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    stops: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl HttpServer {
    /// Starts to serve.
    pub fn start(handler: impl Fn(&HttpRequest) -> Reply + Send + Sync + 'static) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            stops: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let mut server = Self { address, shared, thread: None };
        server.resume();
        server
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Dies: its port is closed and every connection is cut.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.stops.store(true, Ordering::SeqCst);
        thread.join().unwrap();
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Comes back on the same port.
    pub fn resume(&mut self) {
        self.stop();
        self.shared.stops.store(false, Ordering::SeqCst);
        let listener = (0..200).find_map(|_| {
            let bound = TcpListener::bind(self.address).ok();
            if bound.is_none() {
                thread::sleep(Duration::from_millis(20));
            }
            bound
        });
        let listener = listener.expect("the port is taken");
        self.address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = self.shared.clone();
        self.thread = Some(thread::spawn(move || accept(&listener, &shared)));
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer").field("address", &self.address).finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stops.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        shared.open.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = shared.clone();
        thread::spawn(move || serve(stream, &shared));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = HttpRequest::read(&mut reader) {
        let reply = (shared.handler)(&request);
        if !matches!(reply.send(&mut stream), Ok(true)) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}
