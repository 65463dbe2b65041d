use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use opd_http::{Client, Error, Request, Retry, Settings, Verdict};
use opd_testkit::http::{HttpServer, Reply};

use crate::{ask, number, quick};

/// Misbehaves `n` times, then echoes.
fn fails(n: usize, fault: Reply) -> HttpServer {
    let calls = AtomicUsize::new(0);
    HttpServer::start(move |request| match calls.fetch_add(1, Ordering::SeqCst) {
        call if call < n => fault.clone(),
        _ => Reply::json(request.body.clone()),
    })
}

#[test]
fn what_passes_is_tried_again() {
    let statuses = [408, 429, 500, 502, 503, 504].map(|status| Reply::status(status, "busy"));
    let trickle = Reply::Trickle { pause: Duration::from_millis(30), bytes: 100 };
    let others = [
        Reply::Drop,
        Reply::Torn { body: b"123456".to_vec(), sent: 3 },
        Reply::json("12 and no"),
        Reply::Late(Duration::from_millis(800), Box::new(Reply::json("5"))),
        trickle,
    ];
    for fault in statuses.into_iter().chain(others) {
        let server = fails(2, fault.clone());
        let client = Client::new(&[server.url()], quick()).unwrap();
        let answer = ask(&client, 7).unwrap();
        assert_eq!((answer.value, answer.attempts, answer.endpoint), (7, 3, 0), "{fault:?}");
    }
}

#[test]
fn what_stays_is_not() {
    for (status, remedy) in [
        (400, ""),
        (401, "; name the key's environment variable or file"),
        (403, "; name the key's environment variable or file"),
        (404, "; is this the right server, path and model name?"),
        (422, ""),
        (501, ""),
        (302, ""),
    ] {
        let server = fails(1, Reply::status(status, r#"{"error": {"message": "no such"}}"#));
        let client = Client::new(&[server.url()], quick()).unwrap();
        let error = ask(&client, 7).unwrap_err();
        let said =
            format!("{} refused the request with status {status}: no such{remedy}", server.url());
        assert_eq!(error.to_string(), said);
        assert!(!error.is_outage());
        assert_eq!(ask(&client, 8).unwrap().attempts, 1);
    }
}

#[test]
fn attempts_end() {
    let server = fails(100, Reply::status(503, r#"{"message": "The request queue is full."}"#));
    let retry = Retry { attempts: 4, ..quick().retry };
    let client = Client::new(&[server.url()], Settings { retry, ..quick() }).unwrap();
    let error = ask(&client, 7).unwrap_err();
    assert!(matches!(error, Error::GaveUp { attempts: 4, .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("in 4 attempts over"), "{said}");
    assert!(said.ends_with("the last: status 503: The request queue is full."), "{said}");
    assert!(error.is_outage());
}

#[test]
fn a_refusing_judge_ends_it() {
    let server = HttpServer::start(|_| Reply::json("1"));
    let client = Client::new(&[server.url()], quick()).unwrap();
    let refuse = |_: &[u8]| Verdict::<()>::Refuse("of another model".into());
    let error = client.run(client.send(None, || Request::get("/"), refuse)).unwrap_err();
    assert!(error.to_string().ends_with("that cannot be used: of another model"), "{error}");
}

#[test]
fn the_best_of_incomplete_answers_is_taken_last() {
    let server = fails(2, Reply::json("13"));
    let judge = |body: &[u8]| match number(body) {
        Verdict::Accept(n) if n != 7 => Verdict::Incomplete(n, "unlucky".into()),
        other => other,
    };
    for (attempts, expected, why) in [(2, 13, Some("unlucky".to_owned())), (3, 7, None)] {
        let server = if attempts == 2 { &server } else { &fails(2, Reply::json("13")) };
        let retry = Retry { attempts, ..quick().retry };
        let client = Client::new(&[server.url()], Settings { retry, ..quick() }).unwrap();
        let answer = client.run(client.send(None, || Request::post("/", "7"), judge)).unwrap();
        assert_eq!((answer.value, answer.incomplete), (expected, why));
    }
}

#[test]
fn retry_after_is_heeded_up_to_the_longest_delay() {
    let busy = |seconds: &str| Reply::Answer {
        status: 429,
        headers: vec![("retry-after".into(), seconds.into())],
        body: Vec::new(),
    };
    let retry = Retry { longest: Duration::from_millis(300), ..quick().retry };
    let settings = Settings { retry, ..quick() };
    for (asked, least) in [("100", 300), ("soon", 0), ("0", 0)] {
        let server = fails(1, busy(asked));
        let client = Client::new(&[server.url()], settings.clone()).unwrap();
        let start = Instant::now();
        ask(&client, 1).unwrap();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(least), "{asked}: {took:?}");
        assert!(least > 0 || took < Duration::from_millis(290), "{asked}: {took:?}");
    }
}
