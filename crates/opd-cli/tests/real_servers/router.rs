use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use opd_batch::{Teacher, Wanted};
use opd_http::{ApiKey, Client, Request, Settings, Verdict};
use opd_pocket::{DataSizes, materialize_with};

use crate::{
    CONTEXT, VOCAB,
    scores::{agree, assert_close, groups, in_process, request},
    server::{KEY, SGLANG, Served, python, settings},
};

/// `sglang-router` in front of servers; ended with the test.
struct Router {
    child: Child,
    url: String,
}

impl Router {
    fn start(workers: &[&str]) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, metrics) = (free(), free());
        let child = Command::new(python())
            .args(["-m", "sglang_router.launch_router", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--prometheus-port", &metrics.to_string()])
            .args(["--policy", "round_robin", "--api-key", KEY, "--worker-urls"])
            .args(workers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let router = Self { child, url: format!("http://127.0.0.1:{port}") };
        router.wait(workers.len());
        router
    }

    /// Until it has found all of them.
    fn wait(&self, workers: usize) {
        let key = ApiKey::new(KEY);
        let client = Client::new(&[&self.url], Settings { key, ..Settings::default() }).unwrap();
        let judge = |body: &[u8]| {
            let told: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            match told["workers"].as_array().map_or(0, Vec::len) {
                n if n == workers => Verdict::Accept(()),
                n => Verdict::Retry(format!("{n} of {workers} workers are there")),
            }
        };
        client.run(client.send(None, || Request::get("/workers"), judge)).unwrap();
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two `opd serve` behind the router are one teacher, also when one of them dies in mid-batch.
pub(crate) fn loses_nothing() {
    let work = tempfile::tempdir().unwrap();
    let sizes = DataSizes { train: 1, validation: 1, test: 1 };
    let job = materialize_with(work.path(), sizes).unwrap();
    let (one, other) = (Served::start(&job.teacher), Served::start(&job.teacher));
    let router = Router::start(&[&one.url, &other.url]);
    let local = in_process(&job.teacher);
    let (teacher, limits) = (SGLANG.connect)(&router.url, settings(VOCAB)).unwrap();
    assert_eq!(limits.longest, Some(CONTEXT));
    agree(&*teacher, &local, &groups(30, VOCAB), "behind the router");

    let many = groups(600, VOCAB);
    let whole = local.score(&request(&many, Wanted::Sampled)).unwrap();
    thread::scope(|scope| {
        let scoring = scope.spawn(|| teacher.score(&request(&many, Wanted::Sampled)).unwrap());
        thread::sleep(Duration::from_millis(200));
        let under_way = !scoring.is_finished();
        drop(other);
        let scores = scoring.join().unwrap();
        assert!(under_way, "the batch was done before a server was killed");
        assert_eq!(scores.n_missing(), 0);
        let what = "one of two behind the router killed in mid-batch";
        assert_close(scores.logprobs.values(), whole.logprobs.values(), what);
    });
}
