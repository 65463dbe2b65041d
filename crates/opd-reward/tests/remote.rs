//! A server that judges: what it is asked, and what becomes of its answers.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opd_http::{Retry, Settings};
use opd_reward::{Answer, RemoteReward, Reward};
use opd_testkit::http::{HttpServer, Reply};
use serde_json::{Value, json};

fn settings() -> Settings {
    let retry = Retry { attempts: 3, first: Duration::from_millis(1), ..Retry::default() };
    Settings { retry, ..Settings::default() }
}

#[test]
fn every_response_is_posted_to_the_address_and_answers_keep_their_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let held = seen.clone();
    let server = HttpServer::start(move |request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        held.lock().unwrap().push((request.path.clone(), body.clone()));
        let n: f64 = body["response"].as_str().unwrap().parse().unwrap();
        // Each of the three forms of an answer.
        Reply::json(match n as u32 % 3 {
            0 => json!(n).to_string(),
            1 => json!({ "score": n, "acc": false }).to_string(),
            _ => json!({ "reward": n }).to_string(),
        })
    });
    let reward = RemoteReward::new(&[format!("{}/judge/math", server.url())], settings()).unwrap();
    let responses: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let answers: Vec<Answer<'_>> = responses
        .iter()
        .map(|response| Answer { prompt: "p", response, label: Some("l"), source: "s" })
        .collect();
    let expected: Vec<f32> = (0..20u8).map(f32::from).collect();
    assert_eq!(reward.rewards(&answers).unwrap(), expected);
    assert_eq!(reward.reward(&answers[7]).unwrap(), 7.0);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 21);
    assert!(seen.iter().all(|(path, _)| path == "/judge/math"));
    let first = seen.iter().find(|(_, body)| body["response"] == "0").unwrap();
    assert_eq!(first.1, json!({ "prompt": "p", "response": "0", "label": "l", "source": "s" }));
}

#[test]
fn a_failing_server_is_asked_again_and_a_useless_answer_is_not() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = HttpServer::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(503, "later"),
        _ => Reply::json("0.25"),
    });
    let reward = RemoteReward::new(&[server.url()], settings()).unwrap();
    assert_eq!(reward.reward(&Answer::default()).unwrap(), 0.25);
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    for useless in ["null", "\"1\"", "[1]", "{\"acc\": 1}", "1e39"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let server = HttpServer::start(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Reply::json(useless)
        });
        let reward = RemoteReward::new(&[server.url()], settings()).unwrap();
        let error = reward.reward(&Answer::default()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("finite number"), "{useless}: {source}");
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{useless}");
    }
    assert!(RemoteReward::new(&["judge"], settings()).is_err());
}
