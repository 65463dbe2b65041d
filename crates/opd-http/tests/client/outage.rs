use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use opd_http::{Client, Error, Request, Retry, Settings};
use opd_testkit::http::{HttpServer, Reply};

use crate::{ask, number, quick};

#[test]
fn a_dead_server_is_named_and_not_hammered() {
    let mut server = HttpServer::start(|_| Reply::json("1"));
    server.stop();
    let retry = Retry { patience: Duration::from_millis(300), ..quick().retry };
    let client = Client::new(&[server.url()], Settings { retry, ..quick() }).unwrap();
    let all = (0..50).map(|_| client.send(None, || Request::get("/"), number));
    let answers = client.run(futures_util::future::join_all(all));
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(Error::is_outage)));
    let said = ask(&client, 1).unwrap_err().to_string();
    let start = format!("circuit open: no answer from {} for ", server.url());
    assert!(said.starts_with(&start) && said.contains("refused"), "{said}");
    let start = Instant::now();
    assert!(ask(&client, 1).is_err());
    assert!(start.elapsed() < Duration::from_millis(250), "a known outage is told at once");
    server.resume();
    let back = (0..100).any(|_| {
        sleep(Duration::from_millis(10));
        ask(&client, 1).is_ok()
    });
    assert!(back, "an outage ends");
}

#[test]
fn nothing_is_lost_while_a_server_is_gone() {
    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let mut server = HttpServer::start(move |request| {
        counter.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(1));
        Reply::json(request.body.clone())
    });
    let client = Client::new(&[server.url()], quick()).unwrap();
    let asking = {
        let client = client.clone();
        spawn(move || {
            let all = (0..2000)
                .map(|n| client.send(None, move || Request::post("/", n.to_string()), number));
            let answers = client.run(futures_util::future::join_all(all));
            answers.into_iter().map(|answer| answer.unwrap().value).collect::<Vec<u64>>()
        })
    };
    while served.load(Ordering::SeqCst) < 300 {
        sleep(Duration::from_millis(1));
    }
    server.stop();
    sleep(Duration::from_millis(700));
    server.resume();
    assert_eq!(asking.join().unwrap(), (0..2000).collect::<Vec<_>>());
    let extra = served.load(Ordering::SeqCst) - 2000;
    assert!(extra <= 64, "{extra} requests were made more than once");
}

#[test]
fn health_is_asked_before_a_failing_server_is_used() {
    let (asked, looked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (requests, looks) = (asked.clone(), looked.clone());
    let server = HttpServer::start(move |request| {
        if request.path == "/health" {
            let look = looks.fetch_add(1, Ordering::SeqCst);
            return Reply::status(if look < 5 { 503 } else { 200 }, "");
        }
        match requests.fetch_add(1, Ordering::SeqCst) {
            0..8 => Reply::status(503, "loading"),
            _ => Reply::json(request.body.clone()),
        }
    });
    let settings = Settings { health: Some("/health".into()), ..quick() };
    let client = Client::new(&[server.url()], settings).unwrap();
    let answer = ask(&client, 5).unwrap();
    assert_eq!((answer.value, answer.attempts), (5, 9));
    assert_eq!((asked.load(Ordering::SeqCst), looked.load(Ordering::SeqCst)), (9, 6));
}
