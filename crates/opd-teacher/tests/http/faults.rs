use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use opd_batch::{Teacher, Wanted};
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpRequest, HttpServer, Reply};
use serde_json::{Value, json};

use crate::{
    bits, groups,
    oracle::{self, is_scoring},
    quick, request,
};

const KINDS: u64 = 15;

/// Spoils the answer to a scoring request.
fn fault(kind: u64, request: &HttpRequest) -> Reply {
    let good = oracle::answer(request, "v").unwrap();
    let text = good.to_string();
    match kind {
        0 => Reply::Late(Duration::from_millis(20), Box::new(Reply::json(text))),
        1 => Reply::Late(Duration::from_millis(500), Box::new(Reply::json(text))),
        2 => Reply::Drop,
        3 => Reply::status(503, r#"{"object": "error", "message": "The request queue is full."}"#),
        4 => Reply::status(500, "Internal Server Error"),
        5 => Reply::Torn { sent: text.len() / 2, body: text.into_bytes() },
        // Cut short, but of the announced length.
        6 => Reply::json(&text.as_bytes()[..text.len() / 2]),
        7 => Reply::Trickle { pause: Duration::from_millis(20), bytes: 40 },
        8 => Reply::json("<html>gateway</html>"),
        9 => Reply::json(text.replacen("-", "NaN, \"was\": -", 1)),
        kind => Reply::json(spoiled(kind, good).to_string()),
    }
}

fn spoiled(kind: u64, mut answer: Value) -> Value {
    let sglang = answer.get("choices").is_none();
    if kind == 10 {
        // In another order than asked.
        let items = if sglang { &mut answer } else { &mut answer["choices"] };
        match items.as_array_mut() {
            Some(items) if items.len() > 1 && sglang => items.reverse(),
            Some(items) if items.len() > 1 => {
                items.reverse();
                for (index, item) in items.iter_mut().enumerate() {
                    item["index"] = index.into();
                }
            }
            _ => return json!([answer.clone(), answer]),
        }
        return answer;
    }
    let item = match (sglang, answer.is_array()) {
        (true, true) => &mut answer[0],
        (true, false) => &mut answer,
        (false, _) => &mut answer["choices"][0],
    };
    let place = if sglang { "/meta_info/input_token_logprobs" } else { "/prompt_logprobs" };
    match kind {
        14 if sglang => item["meta_info"]["finish_reason"] = json!({"type": "abort"}),
        14 => item["finish_reason"] = "abort".into(),
        _ => {
            let values = item.pointer_mut(place).unwrap().as_array_mut().unwrap();
            let last = values.len() - 1;
            match kind {
                11 => drop(values.pop()),
                12 => values.push(values[last].clone()),
                _ if sglang => values[last][0] = Value::Null,
                _ => values[last] = json!({"999999": {"logprob": -1.0}}),
            }
        }
    }
    answer
}

/// About three requests of ten go wrong, each in one of all ways.
fn faulty() -> HttpServer {
    let count = AtomicU64::new(0);
    HttpServer::start(move |request| {
        if !is_scoring(request) {
            return oracle::reply(request, "v");
        }
        let n = count.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        match n % 100 {
            0..30 => fault((n / 100) % KINDS, request),
            _ => oracle::reply(request, "v"),
        }
    })
}

#[test]
fn faults_change_no_score() {
    let pairs = groups(250);
    assert_eq!(pairs.len(), 2000);
    let expected = oracle::bits(&pairs);
    for per_request in [1, 8] {
        let settings = RemoteSettings { sequences_per_request: per_request, ..quick() };
        let server = faulty();
        let teachers: [Box<dyn Teacher>; 2] = [
            Box::new(SglangTeacher::connect(&[server.url()], settings.clone()).unwrap()),
            Box::new(VllmTeacher::connect(&[server.url()], settings).unwrap()),
        ];
        for teacher in teachers {
            let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
            assert_eq!(scores.n_missing(), 0);
            assert!(bits(&scores) == expected, "{} with {per_request}", teacher.name());
        }
    }
}

/// Each kind alone, so that none of them hides behind the others.
#[test]
fn every_fault_is_noticed() {
    for kind in 0..KINDS {
        let count = AtomicU64::new(0);
        let server = HttpServer::start(move |request| {
            let spoil =
                is_scoring(request) && count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            if spoil { fault(kind, request) } else { oracle::reply(request, "v") }
        });
        let pairs = groups(2);
        let sglang = SglangTeacher::connect(&[server.url()], quick()).unwrap();
        let vllm = VllmTeacher::connect(&[server.url()], quick()).unwrap();
        for teacher in [&sglang as &dyn Teacher, &vllm] {
            let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
            assert_eq!(bits(&scores), oracle::bits(&pairs), "fault {kind}, {}", teacher.name());
        }
    }
}
