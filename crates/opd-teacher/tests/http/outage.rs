use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{sleep, spawn},
    time::Duration,
};

use opd_batch::{Teacher, Wanted};
use opd_http::Retry;
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::HttpServer;

use crate::{
    bits,
    faults::faulty,
    groups,
    oracle::{self, is_scoring},
    quick, request,
};

/// Seconds that the server is gone; `OPD_OUTAGE_SECONDS` for the long form.
fn seconds() -> f64 {
    std::env::var("OPD_OUTAGE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(0.5)
}

fn slow_server() -> (HttpServer, Arc<AtomicUsize>) {
    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let server = HttpServer::start(move |request| {
        if is_scoring(request) {
            counter.fetch_add(1, Ordering::SeqCst);
            sleep(Duration::from_millis(2));
        }
        oracle::reply(request, "v")
    });
    (server, served)
}

type Connect = fn(&str, RemoteSettings) -> Box<dyn Teacher>;

#[test]
fn a_batch_outlives_its_sglang_server() {
    outlives(|url, settings| Box::new(SglangTeacher::connect(&[url], settings).unwrap()));
}

#[test]
fn a_batch_outlives_its_vllm_server() {
    outlives(|url, settings| Box::new(VllmTeacher::connect(&[url], settings).unwrap()));
}

/// 2,000 sequences behind a server that is faulty, then away, then back.
fn outlives(connect: Connect) {
    let (mut server, served) = faulty();
    // The real delays for the long form, scaled down for the short.
    let http = if seconds() < 5.0 { quick().http } else { opd_http::Settings::default() };
    let settings = RemoteSettings { http, sequences_per_request: 1, ..quick() };
    let teacher = connect(&server.url(), settings);
    let pairs = groups(250);
    let expected = oracle::bits(&pairs);
    let scoring = spawn(move || teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap());
    while served.load(Ordering::SeqCst) < 500 {
        sleep(Duration::from_millis(1));
    }
    server.stop();
    let before = served.load(Ordering::SeqCst);
    sleep(Duration::from_secs_f64(seconds()));
    assert!(!scoring.is_finished(), "the batch was done before the server was away");
    server.resume();
    let scores = scoring.join().unwrap();
    assert!(served.load(Ordering::SeqCst) > before + 500, "the server was not asked again");
    assert_eq!(scores.n_missing(), 0);
    assert!(bits(&scores) == expected);
}

#[test]
fn a_server_that_stays_away_leaves_scores_missing() {
    let (mut server, served) = slow_server();
    let mut settings = RemoteSettings { sequences_per_request: 1, ..quick() };
    settings.http.retry = Retry { patience: Duration::from_millis(200), ..settings.http.retry };
    let teacher = SglangTeacher::connect(&[server.url()], settings).unwrap();
    let pairs = groups(100);
    let expected = oracle::bits(&pairs);
    let scoring = spawn(move || teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap());
    while served.load(Ordering::SeqCst) < 100 {
        sleep(Duration::from_millis(1));
    }
    server.stop();
    let scores = scoring.join().unwrap();
    let got = bits(&scores);
    assert!(scores.n_missing() > expected.len() / 2, "{}", scores.n_missing());
    let right = got.iter().zip(&expected).filter(|(got, _)| got.is_some());
    assert!(right.clone().count() > 0 && right.into_iter().all(|(got, expected)| got == expected));
}

#[test]
fn one_of_two_servers_may_go() {
    let ((mut first, served), (second, _)) = (slow_server(), slow_server());
    let settings = RemoteSettings { sequences_per_request: 1, ..quick() };
    let teacher = SglangTeacher::connect(&[first.url(), second.url()], settings).unwrap();
    let pairs = groups(120);
    let expected = oracle::bits(&pairs);
    let scoring = spawn(move || teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap());
    while served.load(Ordering::SeqCst) < 50 {
        sleep(Duration::from_millis(1));
    }
    first.stop();
    assert!(bits(&scoring.join().unwrap()) == expected);
}
