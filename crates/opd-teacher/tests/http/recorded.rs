use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use opd_batch::{Teacher, TeacherScores, Wanted};
use opd_http::Retry;
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpServer, Reply};
use serde_json::Value;

use crate::{quick, request};

/// An exchange with a real server.
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) response: Value,
}

/// What an exchange is to our client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// The answer to a scoring request, also of another client.
    Scoring,
    /// What the server says of itself, where our client asks for it.
    Description,
    /// Whether it is well.
    Health,
    /// An order, or something that our client does not ask for.
    Other,
}

impl Exchange {
    pub(crate) fn role(&self) -> Role {
        match self.path.as_str() {
            "/generate" | "/v1/completions" | "/inference/v1/generate" => Role::Scoring,
            "/model_info" | "/get_model_info" | "/v1/models" | "/weight_info" => Role::Description,
            "/health" => Role::Health,
            // The record of a full queue has no path.
            "" => Role::Scoring,
            _ => Role::Other,
        }
    }

    /// Its answer is to sequences of several prompts, which our client does not ask for together:
    /// `src/recorded_batches.rs` has these.
    fn is_batch(&self) -> bool {
        let of_lists = |field: &str| self.body[field][0].is_array();
        self.status == 200 && (of_lists("input_ids") || of_lists("prompt"))
    }
}

/// The exchanges of a role.
pub(crate) fn of_role(server: &str, role: Role) -> Vec<Exchange> {
    exchanges(server).into_iter().filter(|exchange| exchange.role() == role).collect()
}

pub(crate) fn exchanges(server: &str) -> Vec<Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{server}.json"));
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let exchange = |value: Value| {
        let text = |place: &str| value.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let name = text("/name").unwrap();
        // One record is of twelve requests at once, most of them turned away.
        let (status, response) = match name.as_str() {
            "err_queue_full" => (503, value["body"][0].clone()),
            _ => (value["status"].as_u64().unwrap() as u16, value["response"].clone()),
        };
        let body = value.pointer("/request/body").cloned().unwrap_or_default();
        Exchange { name, path: text("/request/path").unwrap_or_default(), body, status, response }
    };
    all.into_iter().map(exchange).collect()
}

pub(crate) fn named(server: &str, name: &str) -> Exchange {
    exchanges(server).into_iter().find(|exchange| exchange.name == name).unwrap()
}

/// Ids of a request that our client could have sent.
pub(crate) fn ids(value: &Value) -> Option<Vec<u32>> {
    let ids = value.as_array()?.iter().map(|id| id.as_u64().map(|id| id as u32));
    ids.collect::<Option<Vec<u32>>>()
        .filter(|ids| ids.len() >= 2 && ids.len() <= 505 && ids.iter().all(|&id| id < 1024))
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        value => value.to_string().into_bytes(),
    }
}

/// Answers descriptions as the real server did, and every scoring request with one exchange.
fn server(
    kind: &'static str,
    exchange: &Exchange,
    token_form: bool,
    asked: Arc<AtomicUsize>,
) -> HttpServer {
    let descriptions: BTreeMap<String, Vec<u8>> = exchanges(kind)
        .into_iter()
        .filter(|e| ["get_model_info", "get_v1_models"].contains(&e.name.as_str()))
        .map(|e| (e.path.clone(), bytes(&e.response)))
        .collect();
    let (status, body) = (exchange.status, bytes(&exchange.response));
    HttpServer::start(move |request| {
        if let Some(body) = descriptions.get(&request.path) {
            return Reply::json(body.clone());
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/inference/v1/generate") if request.body == b"{}" => {
                Reply::status(if token_form { 400 } else { 403 }, "{}")
            }
            ("POST", "/generate" | "/v1/completions" | "/inference/v1/generate") => {
                asked.fetch_add(1, Ordering::SeqCst);
                match status {
                    0 => Reply::Drop,
                    status => Reply::status(status, body.clone()),
                }
            }
            _ => Reply::status(404, r#"{"detail": "Not Found"}"#),
        }
    })
}

pub(crate) fn impatient() -> RemoteSettings {
    let mut settings = quick();
    settings.http.retry = Retry { attempts: 3, ..settings.http.retry };
    settings
}

/// What the exchange should come to, read from the record by other code than the client's.
#[derive(Debug, PartialEq)]
enum Expected {
    /// Of the tokens, and the likeliest ids.
    Scores(Vec<f32>, Vec<(u32, f32)>),
    Missing,
    Error(String),
}

pub(crate) fn message(response: &Value) -> String {
    let places = ["/error/message", "/error", "/message", "/detail"];
    let text = places.iter().find_map(|place| response.pointer(place).and_then(Value::as_str));
    let words = text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(200).collect()
}

/// Log-probs of the sent ids, and the likeliest ids with theirs.
type Scored = (Vec<f32>, Vec<(u32, f32)>);

fn expected(exchange: &Exchange, scores: Option<Scored>) -> Expected {
    match (exchange.status, scores) {
        (200, Some((scores, top))) => Expected::Scores(scores, top),
        (200 | 0 | 500..600, _) => Expected::Missing,
        _ => Expected::Error(message(&exchange.response)),
    }
}

/// Compares; whether it was scored.
fn compare(
    exchange: &Exchange,
    expected: &Expected,
    got: opd_batch::Result<TeacherScores>,
    asked: usize,
) -> bool {
    let name = &exchange.name;
    match (expected, got) {
        (Expected::Scores(expected, likeliest), Ok(scores)) => {
            let got: Vec<Option<f32>> = scores.logprobs.values().to_vec();
            let expected: Vec<Option<f32>> = expected.iter().map(|&x| Some(x)).collect();
            assert_eq!(got, expected, "{name}");
            let top = scores.top.into_iter().flat_map(|top| top.ids.into_iter().zip(top.logprobs));
            assert_eq!(&top.collect::<Vec<_>>(), likeliest, "{name}");
            assert_eq!(asked, 1, "{name}");
            true
        }
        (Expected::Missing, Ok(scores)) => {
            assert_eq!(scores.n_missing(), scores.logprobs.values().len(), "{name}");
            assert_eq!(asked, 3, "{name}: what may pass is tried again");
            false
        }
        (Expected::Error(said), Err(error)) => {
            let error = anyhow::Error::from(error);
            let text = format!("{error:#}");
            assert!(text.contains(said) && !said.is_empty(), "{name}: {text}\n{said}");
            assert!(text.contains(&format!("status {}", exchange.status)), "{name}: {text}");
            assert_eq!(asked, 1, "{name}: what stays is not tried again");
            false
        }
        (expected, got) => panic!("{name}: {expected:?}, got {got:?}"),
    }
}

/// `[log-prob, id, null]` entries.
fn triples(entries: &Value) -> Vec<(u32, f32)> {
    let triple = |t: &Value| (t[1].as_u64().unwrap() as u32, t[0].as_f64().unwrap() as f32);
    entries.as_array().unwrap().iter().map(triple).collect()
}

#[test]
fn every_exchange_with_sglang() {
    let mut scored = Vec::new();
    let all = exchanges("sglang");
    assert_eq!(all.len(), 77);
    let roles = [Role::Scoring, Role::Other].map(|role| of_role("sglang", role));
    assert_eq!(roles.iter().map(Vec::len).collect::<Vec<_>>(), [53, 16]);
    for exchange in roles.into_iter().flatten().filter(|exchange| !exchange.is_batch()) {
        let body = &exchange.body;
        let sent = ids(&body["input_ids"]);
        let start = body["logprob_start_len"].as_u64().unwrap_or(0) as usize;
        let known = sent.as_ref().filter(|ids| start + 1 < ids.len());
        let (ids, start) = known.map_or((vec![5, 100, 200], 0), |ids| (ids.clone(), start));
        // The flat form is not asked for.
        let lists = exchange.response.pointer("/meta_info/input_top_logprobs");
        let k = known.and(lists).and(body["top_logprobs_num"].as_u64()).unwrap_or(0) as usize;
        let entries = exchange.response.pointer("/meta_info/input_token_logprobs");
        let reason = exchange.response.pointer("/meta_info/finish_reason/type");
        let recorded = entries.and_then(Value::as_array).filter(|entries| {
            let echoed = entries.iter().map(|entry| entry[1].as_u64().unwrap() as u32);
            echoed.eq(ids[start..].iter().copied()) && *reason.unwrap() == "length"
        });
        let recorded = recorded.map(|entries| {
            let own = triples(&Value::from(&entries[1..]));
            let lists = lists.filter(|_| k > 0).and_then(Value::as_array);
            let top = lists.into_iter().flat_map(|lists| lists[1..].iter().flat_map(triples));
            (own.into_iter().map(|(_, logprob)| logprob).collect(), top.collect())
        });
        let expected = expected(&exchange, recorded);
        let asked = Arc::new(AtomicUsize::new(0));
        let server = server("sglang", &exchange, false, asked.clone());
        let teacher = SglangTeacher::connect(&[server.url()], impatient()).unwrap();
        assert_eq!(teacher.limits().longest, Some(505));
        let pairs = [(ids[..=start].to_vec(), ids[start + 1..].to_vec())];
        let wanted = if k > 0 { Wanted::TopK(k) } else { Wanted::Sampled };
        let got = teacher.score(&request(&pairs, 1.0, wanted));
        if compare(&exchange, &expected, got, asked.load(Ordering::SeqCst)) {
            scored.push(exchange.name);
        }
    }
    let must = [
        "score_T1.0",
        "score_T0.7",
        "score_top3",
        "start_len_5",
        "long400_start200",
        "long400_chunk64",
        "score_after_update",
        "id_between_tok_and_vocab",
    ];
    for name in must {
        assert!(scored.iter().any(|held| held == name), "{name} is not among {scored:?}");
    }
    assert!(scored.len() >= 14, "{scored:?}");
}

#[test]
fn every_exchange_with_vllm() {
    let (mut scored, mut with_top) = (Vec::new(), Vec::new());
    assert_eq!(exchanges("vllm").len(), 63);
    let roles = [Role::Scoring, Role::Other].map(|role| of_role("vllm", role));
    assert_eq!(roles.iter().map(Vec::len).collect::<Vec<_>>(), [41, 16]);
    for exchange in roles.into_iter().flatten().filter(|exchange| !exchange.is_batch()) {
        let token_form = exchange.path == "/inference/v1/generate";
        let body = &exchange.body;
        let sent = ids(&body["prompt"]).or_else(|| ids(&body["token_ids"]));
        let k = body.pointer("/sampling_params/prompt_logprobs").or(body.get("prompt_logprobs"));
        let k = sent.as_ref().and(k.and_then(Value::as_u64)).unwrap_or(0) as usize;
        let ids = sent.unwrap_or_else(|| vec![5, 100, 200]);
        let positions = match token_form {
            true => exchange.response.pointer("/prompt_logprobs"),
            false => exchange.response.pointer("/choices/0/prompt_logprobs"),
        };
        let positions = positions.and_then(Value::as_array).filter(|p| p.len() == ids.len());
        let one = exchange.response["choices"].as_array().is_some_and(|c| c.len() == 1);
        let recorded = positions.filter(|_| one).and_then(|positions| {
            let logprob = |t: usize| positions[t][ids[t].to_string()]["logprob"].as_f64();
            let all: Option<Vec<f64>> = (1..ids.len()).map(logprob).collect();
            let top = positions[1..].iter().flat_map(|position| of_rank(position, k));
            Some((all?.into_iter().map(|x| x as f32).collect(), top.collect()))
        });
        let expected = expected(&exchange, recorded);
        let asked = Arc::new(AtomicUsize::new(0));
        let server = server("vllm", &exchange, token_form, asked.clone());
        let teacher = VllmTeacher::connect(&[server.url()], impatient()).unwrap();
        assert_eq!(teacher.limits().longest, Some(511));
        let pairs = [(ids[..1].to_vec(), ids[1..].to_vec())];
        let wanted = if k > 0 { Wanted::TopK(k) } else { Wanted::Sampled };
        let got = teacher.score(&request(&pairs, 1.0, wanted));
        if compare(&exchange, &expected, got, asked.load(Ordering::SeqCst)) {
            with_top.extend((k > 0).then(|| exchange.name.clone()));
            scored.push(exchange.name);
        }
    }
    let must = [
        "completions_plp0",
        "inference_generate",
        "inference_generate_logprobs",
        "after_version",
        "processed_T2.0",
    ];
    for name in must {
        assert!(scored.iter().any(|held| held == name), "{name} is not among {scored:?}");
    }
    with_top.sort();
    assert_eq!(with_top, ["completions_plp5_T0_rti", "inference_generate"]);
}

/// The `k` likeliest entries of a position, by the ranks that vLLM gave them.
fn of_rank(position: &Value, k: usize) -> Vec<(u32, f32)> {
    let entry = |(id, entry): (&String, &Value)| {
        let rank = entry["rank"].as_u64().unwrap() as usize;
        let logprob = entry["logprob"].as_f64().unwrap() as f32;
        (rank <= k).then(|| (rank, (id.parse().unwrap(), logprob)))
    };
    let entries = position.as_object().into_iter().flatten();
    let entries: BTreeMap<usize, (u32, f32)> = entries.filter_map(entry).collect();
    entries.into_values().collect()
}

#[test]
fn a_temperature_that_is_not_honoured_is_no_score() {
    for (kind, name) in [("sglang", "score_T0.7"), ("sglang", "input_logprob_temperature")] {
        let exchange = named(kind, name);
        let ids = ids(&exchange.body["input_ids"]).unwrap();
        let pairs = [(ids[..1].to_vec(), ids[1..].to_vec())];
        let server = server(kind, &exchange, false, Arc::default());
        let teacher = SglangTeacher::connect(&[server.url()], quick()).unwrap();
        let error = teacher.score(&request(&pairs, 0.7, Wanted::Sampled)).unwrap_err().to_string();
        assert!(error.contains("cannot give scores at temperature 0.7"), "{error}");
        assert!(error.contains("sample at 1") && error.contains("opd serve"), "{error}");
        let knowingly = RemoteSettings { at_temperature_one: true, ..quick() };
        let teacher = SglangTeacher::connect(&[server.url()], knowingly).unwrap();
        let scores = teacher.score(&request(&pairs, 0.7, Wanted::Sampled)).unwrap();
        assert_eq!(scores.n_missing(), 0);
    }
    let exchange = named("vllm", "completions_plp0");
    let server = server("vllm", &exchange, false, Arc::default());
    let teacher = VllmTeacher::connect(&[server.url()], quick()).unwrap();
    let pairs = [(vec![5], vec![100])];
    let error = teacher.score(&request(&pairs, 0.7, Wanted::Sampled)).unwrap_err().to_string();
    assert!(error.contains("cannot give scores at temperature 0.7"), "{error}");
}

#[test]
fn a_temperature_that_is_honoured_is_taken() {
    let mut exchange = named("sglang", "score_T0.7");
    exchange.response["meta_info"]["input_logprob_temperature"] = 0.7.into();
    let ids = ids(&exchange.body["input_ids"]).unwrap();
    let pairs = [(ids[..1].to_vec(), ids[1..].to_vec())];
    let server = server("sglang", &exchange, false, Arc::default());
    let teacher = SglangTeacher::connect(&[server.url()], quick()).unwrap();
    let scores = teacher.score(&request(&pairs, 0.7, Wanted::Sampled)).unwrap();
    assert_eq!(scores.n_missing(), 0);
}
