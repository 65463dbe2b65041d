//! Our client behind a faulty proxy before a running server: what it keeps is what the server
//! answered, each sequence once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_http::{CircuitRules, Retry, Settings};
use opd_serve::Options;
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{Fault, HttpServer, Reply, forward};
use serde_json::Value;

use crate::client::Site;

/// Prompt and response.
type Pair = (Vec<u32>, Vec<u32>);

/// 250 prompts with 8 different responses each, of ids below 320.
fn groups() -> Vec<Pair> {
    let pair = |i: u32| {
        let group = i / 8;
        let prompt = (0..3 + group % 9).map(|t| (group * 31 + t * 7) % 320).collect();
        let response = (0..1 + (i * 5) % 23).map(|t| (i * 131 + t * 17) % 320);
        (prompt, response.chain([i % 8]).collect())
    };
    (0..2000).map(pair).collect()
}

fn request<'a>(pairs: &'a [Pair], wanted: Wanted<'a>) -> ScoreRequest<'a> {
    let sequences = pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response });
    ScoreRequest { sequences: sequences.collect(), temperature: 1.0, wanted, sources: &[] }
}

/// Short delays, and a time limit that no answer comes near.
fn settings(sequences_per_request: usize) -> RemoteSettings {
    let retry = Retry {
        attempts: 40,
        first: Duration::from_millis(1),
        longest: Duration::from_millis(10),
        patience: Duration::from_secs(120),
    };
    let circuit = CircuitRules {
        failures: 12,
        pause: Duration::from_millis(5),
        longest: Duration::from_millis(50),
    };
    let http = Settings { timeout: Duration::from_secs(60), retry, circuit, ..Settings::default() };
    RemoteSettings { http, vocab_size: Some(320), sequences_per_request, ..Default::default() }
}

/// How often each sequence was answered without fault, and how many answers were spoilt.
#[derive(Debug, Default)]
struct Log {
    answered: BTreeMap<Vec<u32>, usize>,
    sequences: usize,
    spoilt: usize,
}

/// About three answers of ten are spoilt on the way, each in one of all ways.
fn proxy(site: &Site) -> (HttpServer, Arc<Mutex<Log>>) {
    let log = Arc::new(Mutex::new(Log::default()));
    let (kept, address) = (log.clone(), site.address);
    let requests = Mutex::new(0u64);
    let server = HttpServer::start(move |request| {
        let reply = forward(address, request);
        let field = match request.path.as_str() {
            "/generate" => "input_ids",
            "/v1/completions" => "prompt",
            _ => return reply,
        };
        let Reply::Answer { status: 200, body, .. } = &reply else { return reply };
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let ids: Vec<Vec<u32>> = match asked[field][0].is_array() {
            true => serde_json::from_value(asked[field].clone()).unwrap(),
            false => vec![serde_json::from_value(asked[field].clone()).unwrap()],
        };
        let number = {
            let mut requests = requests.lock().unwrap();
            *requests += 1;
            *requests
        };
        let fault = Fault::in_three_of_ten(number);
        let mut log = kept.lock().unwrap();
        log.sequences += ids.len();
        if fault.is_none_or(Fault::only_delays) {
            for ids in ids {
                *log.answered.entry(ids).or_default() += 1;
            }
        } else {
            log.spoilt += 1;
        }
        drop(log);
        let good = || serde_json::from_slice(body).unwrap();
        fault.map_or_else(|| Reply::json(body.clone()), |fault| fault.spoil(&good()))
    });
    (server, log)
}

/// Sequences that the server has scored, by its own count.
fn counted(site: &Site) -> usize {
    let text = site.get("/metrics").body;
    let line = text.lines().find(|line| line.starts_with("opd_sequences_total "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
}

fn bits(scores: &TeacherScores) -> (Vec<Option<u32>>, Vec<(u32, u32)>) {
    let own = scores.logprobs.values().iter().map(|value| value.map(f32::to_bits)).collect();
    let top = scores.top.iter().flat_map(|top| top.ids.iter().zip(&top.logprobs));
    (own, top.map(|(id, logprob)| (*id, logprob.to_bits())).collect())
}

type Connect = fn(&str, RemoteSettings) -> Box<dyn Teacher>;

fn nothing_is_lost_or_doubled(connect: Connect) {
    let site = Site::of("qwen3_tied", Options::default());
    let all = groups();
    for (per_request, wanted, n) in
        [(1, Wanted::Sampled, 2000), (4, Wanted::Sampled, 2000), (2, Wanted::TopK(3), 400)]
    {
        let pairs = &all[..n];
        let direct = connect(&format!("http://{}", site.address), settings(per_request));
        let expected = direct.score(&request(pairs, wanted)).unwrap();
        assert_eq!(expected.n_missing(), 0);
        let before = counted(&site);
        let (server, log) = proxy(&site);
        let scores = connect(&server.url(), settings(per_request)).score(&request(pairs, wanted));
        let scores = scores.unwrap();
        assert!(bits(&scores) == bits(&expected), "{per_request} a request, {wanted}");
        let log = log.lock().unwrap();
        assert!(log.spoilt > n / per_request / 10, "only {} answers were spoilt", log.spoilt);
        // Every sequence was answered whole and right once, and not asked for again.
        let doubled = log.answered.iter().find(|(_, times)| **times != 1);
        assert!(doubled.is_none() && log.answered.len() == n, "{doubled:?}");
        for (prompt, response) in pairs {
            assert!(log.answered.contains_key(&[&prompt[..], response].concat()));
        }
        assert_eq!(counted(&site) - before, log.sequences, "the server's own count");
    }
}

#[test]
fn nothing_is_lost_or_doubled_in_the_form_of_sglang() {
    nothing_is_lost_or_doubled(|url, settings| {
        Box::new(SglangTeacher::connect(&[url], settings).unwrap())
    });
}

#[test]
fn nothing_is_lost_or_doubled_in_the_form_of_vllm() {
    nothing_is_lost_or_doubled(|url, settings| {
        Box::new(VllmTeacher::connect(&[url], settings).unwrap())
    });
}
