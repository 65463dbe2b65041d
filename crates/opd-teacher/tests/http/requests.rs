use std::sync::{Arc, Mutex};

use opd_batch::{Teacher, Wanted};
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpServer, Reply};
use serde_json::{Value, json};

use crate::{
    Pair, bits, groups,
    oracle::{self, is_scoring},
    quick, request,
};

/// A fault-free server, and the bodies of the scoring requests that it had.
fn served() -> (HttpServer, Arc<Mutex<Vec<Value>>>) {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = bodies.clone();
    let server = HttpServer::start(move |request| {
        if is_scoring(request) {
            seen.lock().unwrap().push(serde_json::from_slice(&request.body).unwrap());
        }
        oracle::reply(request, "v")
    });
    (server, bodies)
}

fn both(url: &str, settings: &RemoteSettings) -> [Box<dyn Teacher>; 2] {
    [
        Box::new(SglangTeacher::connect(&[format!("{url}/generate")], settings.clone()).unwrap()),
        Box::new(VllmTeacher::connect(&[format!("{url}/v1/")], settings.clone()).unwrap()),
    ]
}

#[test]
fn scores_come_back_in_their_rows() {
    let pairs = groups(30);
    let (server, _) = served();
    for teacher in both(&server.url(), &quick()) {
        for wanted in [Wanted::Sampled, Wanted::TopK(4)] {
            let scores = teacher.score(&request(&pairs, 1.0, wanted)).unwrap();
            assert_eq!(bits(&scores), oracle::bits(&pairs), "{}", teacher.name());
            let k = oracle::k_of(wanted);
            let Some(top) = scores.top else {
                assert_eq!(k, 0);
                continue;
            };
            let mut expected = Vec::new();
            for (prompt, response) in &pairs {
                for (t, &sent) in response.iter().enumerate() {
                    let context = [prompt.as_slice(), &response[..t]].concat();
                    let mut entries = oracle::top(&context, k);
                    // The oracle's likeliest ids are made up: the sent one may be likelier, and
                    // vLLM puts it among them.
                    if teacher.name().starts_with("teacher=") {
                        entries.retain(|(id, _)| *id != sent);
                        entries.push((sent, oracle::logprob(&context, sent)));
                        entries.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                        entries.truncate(k);
                    }
                    expected.extend(entries);
                }
            }
            let got: Vec<_> = top.ids.into_iter().zip(top.logprobs).collect();
            assert_eq!(got, expected, "{}", teacher.name());
        }
    }
}

#[test]
fn samples_of_a_prompt_go_together_and_a_long_prompt_goes_ahead() {
    let prompt: Vec<u32> = (0..80).collect();
    let pairs: Vec<Pair> = (0..8).map(|i| (prompt.clone(), vec![i + 1, i + 2])).collect();
    let (server, bodies) = served();
    let [sglang, vllm] = both(&server.url(), &quick());
    sglang.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
    let sent = std::mem::take(&mut *bodies.lock().unwrap());
    assert_eq!(sent.len(), 2, "one ahead, then the others");
    assert_eq!(sent[0]["input_ids"].as_array().unwrap().len(), 82);
    assert_eq!(sent[1]["input_ids"].as_array().unwrap().len(), 7);
    assert!(sent.iter().all(|body| body["logprob_start_len"] == 79));
    vllm.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
    let sent = std::mem::take(&mut *bodies.lock().unwrap());
    assert_eq!((sent.len(), sent[0]["prompt"].as_array().unwrap().len()), (1, 8));
    let settings = RemoteSettings { sequences_per_request: 3, ..quick() };
    let [_, vllm] = both(&server.url(), &settings);
    vllm.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(bodies.lock().unwrap().len(), 3);
}

#[test]
fn what_would_kill_a_server_is_not_sent() {
    let (server, bodies) = served();
    let long = vec![7; 600];
    for teacher in both(&server.url(), &quick()) {
        let good = (vec![1, 2], vec![3]);
        let cases: [(Pair, &str); 4] = [
            (
                (vec![1, 1024], vec![3]),
                "row 1 has id 1024 at token 1, and its vocabulary holds 1024",
            ),
            ((vec![1], vec![2, 99999]), "row 1 has id 99999 at token 2"),
            ((vec![], vec![3]), "row 1 has no prompt"),
            ((long.clone(), vec![3]), "row 1 has 601 tokens, and it takes 5"),
        ];
        for (bad, said) in cases {
            let error = teacher.score(&request(&[good.clone(), bad], 1.0, Wanted::Sampled));
            let text = format!("{:#}", anyhow::Error::from(error.unwrap_err()));
            assert!(text.contains(said), "{text}");
        }
        let empty = teacher.score(&request(&[(vec![1], vec![])], 1.0, Wanted::Sampled)).unwrap();
        assert!(empty.logprobs.values().is_empty());
        let ids = Wanted::Ids { k: 1, ids: &[4] };
        let error = teacher.score(&request(&[good], 1.0, ids)).unwrap_err().to_string();
        assert!(error.contains("cannot give log-probs of ids named per position"), "{error}");
    }
    assert!(bodies.lock().unwrap().is_empty());
}

#[test]
fn an_item_that_spoils_its_request_is_found() {
    let server = HttpServer::start(|request| {
        let bad = is_scoring(request) && String::from_utf8_lossy(&request.body).contains("666");
        match bad {
            true => Reply::status(400, r#"{"error": {"message": "one of them is bad"}}"#),
            false => oracle::reply(request, "v"),
        }
    });
    let mut pairs: Vec<Pair> = (0..8).map(|i| (vec![1, 2], vec![i, 9])).collect();
    pairs[5].1 = vec![666];
    for teacher in both(&server.url(), &quick()) {
        let error = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert!(
            text.contains("row 5 of the batch") && text.contains("one of them is bad"),
            "{text}"
        );
    }
}

#[test]
fn a_lasting_hole_is_one_missing_token() {
    let server = HttpServer::start(|request| {
        let Some(mut answer) = oracle::answer(request, "v") else {
            return Reply::status(404, "{}");
        };
        if request.path == "/generate" {
            answer["meta_info"]["input_token_logprobs"][2][0] = Value::Null;
        } else if request.path == "/v1/completions" {
            let id = answer["choices"][0]["prompt_token_ids"][3].to_string();
            answer["choices"][0]["prompt_logprobs"][3][id]["logprob"] = Value::Null;
        }
        Reply::json(answer.to_string())
    });
    let pairs = [(vec![1, 2], vec![3, 4, 5])];
    for teacher in both(&server.url(), &quick()) {
        let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
        let mut expected = oracle::bits(&pairs);
        expected[1] = None;
        assert_eq!(bits(&scores), expected, "{}", teacher.name());
    }
}

#[test]
fn a_request_that_is_never_answered_is_missing_alone() {
    let server = HttpServer::start(|request| {
        let bad = is_scoring(request) && String::from_utf8_lossy(&request.body).contains("777");
        if bad { Reply::Drop } else { oracle::reply(request, "v") }
    });
    let mut pairs: Vec<Pair> = (0..8).map(|i| (vec![1, 2], vec![i, 9])).collect();
    pairs[3].1 = vec![777, 5];
    for teacher in both(&server.url(), &quick()) {
        let scores = teacher.score(&request(&pairs, 1.0, Wanted::TopK(2))).unwrap();
        let mut expected = oracle::bits(&pairs);
        expected[6..8].fill(None);
        assert_eq!(bits(&scores), expected, "{}", teacher.name());
        let top = scores.top.unwrap().logprobs;
        assert!(top[12..16].iter().all(|x| x.is_nan()), "never zeros");
        assert!(top[..12].iter().chain(&top[16..]).all(|x| x.is_finite()));
    }
}

/// What `opd serve` adds to SGLang's form.
#[test]
fn ids_may_be_named_where_the_server_scores_them() {
    let server = HttpServer::start(|request| {
        let Some(mut answer) = oracle::answer(request, "v") else {
            return Reply::status(404, "{}");
        };
        if request.path == "/model_info" {
            answer["input_logprob_temperature"] = true.into();
            answer["token_ids_logprob_per_position"] = true.into();
            answer["vocab_size"] = 1000.into();
        }
        Reply::json(answer.to_string())
    });
    let teacher = SglangTeacher::connect(&[server.url()], quick()).unwrap();
    assert_eq!(teacher.limits().longest, Some(512), "no margin");
    assert_eq!(teacher.limits().vocab_size, Some(1000), "the smaller one");
    let pairs = groups(3);
    let tokens: usize = pairs.iter().map(|(_, response)| response.len()).sum();
    let ids: Vec<u32> = (0..tokens as u32 * 2).map(|i| (i * 37) % 1000).collect();
    let scores = teacher.score(&request(&pairs, 1.0, Wanted::Ids { k: 2, ids: &ids })).unwrap();
    assert_eq!(bits(&scores), oracle::bits(&pairs));
    let top = scores.top.unwrap();
    assert_eq!((top.k, &top.ids), (2, &ids));
    let mut expected = Vec::new();
    for (prompt, response) in &pairs {
        for t in 0..response.len() {
            let context = [prompt.as_slice(), &response[..t]].concat();
            for id in &ids[expected.len()..expected.len() + 2] {
                expected.push(oracle::logprob(&context, *id));
            }
        }
    }
    assert_eq!(top.logprobs, expected);
}

/// SGLang refuses what its context or its pool of keys and values cannot hold.
#[test]
fn the_longest_sequence_is_what_context_and_pool_hold() {
    for (info, expected) in [
        (None, 505),
        (Some(json!({ "max_total_num_tokens": 8192, "max_req_input_len": 506 })), 505),
        (Some(json!({ "max_total_num_tokens": 400, "max_req_input_len": 394 })), 393),
        (Some(json!({ "max_req_input_len": 490 })), 489),
        (Some(json!({ "max_total_num_tokens": 300 })), 293),
        (Some(json!({ "version": "0" })), 505),
    ] {
        for path in ["/server_info", "/get_server_info"] {
            let told = info.clone();
            let server = HttpServer::start(move |request| match &told {
                Some(info) if request.path == path => Reply::json(info.to_string()),
                _ => oracle::reply(request, "v"),
            });
            let teacher = SglangTeacher::connect(&[server.url()], quick()).unwrap();
            assert_eq!(teacher.limits().longest, Some(expected), "{info:?}");
        }
    }
}

/// As the real SGLang does: it takes the highest id for padding when it writes its answer.
#[test]
fn the_highest_id_may_be_echoed_as_0_and_no_other() {
    let server = HttpServer::start(|request| match oracle::answer(request, "v") {
        Some(answer) if is_scoring(request) => {
            let text = answer.to_string().replace(",1023,", ",0,").replace(",500,", ",0,");
            Reply::json(text)
        }
        _ => oracle::reply(request, "v"),
    });
    let teacher = SglangTeacher::connect(&[server.url()], quick()).unwrap();
    let highest: Vec<Pair> = vec![(vec![7, 1023], vec![3, 1023, 9])];
    let scores = teacher.score(&request(&highest, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(bits(&scores), oracle::bits(&highest));
    let another: Vec<Pair> = vec![(vec![7, 9], vec![3, 500])];
    let scores = teacher.score(&request(&another, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(scores.n_missing(), 2);
}
