use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use opd_http::{Client, Request, Retry, Settings};
use opd_testkit::http::{HttpServer, Reply};

use crate::{ask, number, quick};

#[test]
fn requests_in_flight_are_bounded_and_connections_are_kept() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, peak) = (now.clone(), most.clone());
    let server = HttpServer::start(move |request| {
        peak.fetch_max(counter.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        sleep(Duration::from_millis(5));
        counter.fetch_sub(1, Ordering::SeqCst);
        Reply::json(request.body.clone())
    });
    let settings = Settings { in_flight: 3, ..quick() };
    let client = Client::new(&[server.url()], settings).unwrap();
    let all = (0..60).map(|n| client.send(None, move || Request::post("/", n.to_string()), number));
    let answers = client.run(futures_util::future::join_all(all));
    let values: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().value).collect();
    assert_eq!(values, (0..60).collect::<Vec<u64>>());
    assert_eq!(most.load(Ordering::SeqCst), 3);
    // A connection may be opened while another becomes free.
    assert!(server.connections() <= 12, "{} connections", server.connections());
}

#[test]
fn a_request_is_made_when_there_is_room_for_it() {
    let server = HttpServer::start(|request| Reply::json(request.body.clone()));
    let client = Client::new(&[server.url()], Settings { in_flight: 1, ..quick() }).unwrap();
    let (made, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all = (0..20).map(|n| {
        let (made, done, client) = (&made, &done, &client);
        async move {
            let request = || {
                let ahead = made.fetch_add(1, Ordering::SeqCst) - done.load(Ordering::SeqCst);
                assert!(ahead <= 1, "{ahead} requests were made ahead");
                Request::post("/", n.to_string())
            };
            let answer = client.send(None, request, number).await;
            done.fetch_add(1, Ordering::SeqCst);
            answer
        }
    });
    assert!(client.run(futures_util::future::join_all(all)).iter().all(Result::is_ok));
}

#[test]
fn a_long_answer_is_not_read() {
    let big = Reply::json(vec![b'1'; 5000]);
    let server = HttpServer::start(move |_| big.clone());
    let retry = Retry { attempts: 2, ..quick().retry };
    let client = Client::new(&[server.url()], Settings { retry, ..quick() }).unwrap();
    let request = || Request::get("/").with_longest_answer(4999);
    let error = client.run(client.send(None, request, number)).unwrap_err().to_string();
    assert!(error.ends_with("the last: an answer of more than 4999 bytes"), "{error}");
}

#[test]
fn it_may_be_used_inside_another_runtime() {
    let server = HttpServer::start(|request| Reply::json(request.body.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(&[server.url()], quick()).unwrap();
        assert_eq!(ask(&client, 3).unwrap().value, 3);
    });
}
