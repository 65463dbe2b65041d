use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use candle_core::{DType, Device};
use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TopLogprobs, Wanted};
use opd_teacher::InProcessTeacher;
use opd_testkit::http::{HttpRequest, HttpServer, Reply};
use serde_json::{Value, json};

use crate::command::Workplace;

/// A server of the bundled teacher, as SGLang speaks, that fails from request `until` on.
pub(crate) struct Server {
    http: HttpServer,
    scored: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(work: &Workplace, until: usize) -> Self {
        Self::capped(work, until, usize::MAX)
    }

    /// One that gives at most `most` likeliest ids.
    pub(crate) fn capped(work: &Workplace, until: usize, most: usize) -> Self {
        let layout = opd_pocket::materialize(&work.path("bundled")).unwrap();
        let teacher = InProcessTeacher::load(layout.teacher, DType::F32, &Device::Cpu).unwrap();
        let scored = Arc::new(AtomicUsize::new(0));
        let counter = scored.clone();
        let http = HttpServer::start(move |request| match request.path.as_str() {
            "/model_info" => {
                Reply::json(json!({"model_path": "/t", "weight_version": "1"}).to_string())
            }
            "/v1/models" => {
                Reply::json(json!({"data": [{"id": "t", "max_model_len": 64}]}).to_string())
            }
            "/generate" if counter.fetch_add(1, Ordering::SeqCst) >= until => {
                Reply::status(503, r#"{"message": "gone"}"#)
            }
            "/generate" => generate(&teacher, request, most),
            "/health" => Reply::json("{}"),
            _ => Reply::status(404, "{}"),
        });
        Self { http, scored }
    }

    pub(crate) fn url(&self) -> String {
        self.http.url()
    }

    pub(crate) fn flags(&self) -> String {
        format!("--opd-type sglang --rm-url {}/generate", self.http.url())
    }

    /// Scoring requests since the last call.
    pub(crate) fn requests(&self) -> usize {
        self.scored.swap(0, Ordering::SeqCst)
    }
}

fn generate(teacher: &InProcessTeacher, request: &HttpRequest, most: usize) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let k = body["top_logprobs_num"].as_u64().unwrap_or(0) as usize;
    if k > most {
        let said = format!("top_logprobs_num {k} is above {most}");
        return Reply::status(400, json!({ "error": { "message": said } }).to_string());
    }
    let start = body["logprob_start_len"].as_u64().unwrap() as usize;
    let ids_of = |ids: &Value| -> Vec<u32> {
        ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let lists = body["input_ids"].as_array().unwrap();
    let several = lists[0].is_array();
    let ids: Vec<Vec<u32>> = match several {
        true => lists.iter().map(ids_of).collect(),
        false => vec![ids_of(&body["input_ids"])],
    };
    let sequences = ids.iter().map(|ids| {
        let (prompt, response) = ids.split_at(start + 1);
        ScoredSequence { prompt, response }
    });
    let sequences = sequences.collect();
    let wanted = if k > 0 { Wanted::TopK(k) } else { Wanted::Sampled };
    let scores =
        teacher.score(&ScoreRequest { sequences, temperature: 1.0, wanted, sources: &[] }).unwrap();
    let top = scores.top.unwrap_or(TopLogprobs { k, ids: Vec::new(), logprobs: Vec::new() });
    let mut likeliest = top.ids.iter().zip(&top.logprobs).map(|(id, lp)| json!([lp, id, null]));
    let items = ids.iter().zip(scores.logprobs.iter()).map(|(ids, scores)| {
        let first = json!([null, ids[start], null]);
        let rest = scores.iter().zip(&ids[start + 1..]).map(|(score, id)| json!([score, id, null]));
        let logprobs: Vec<Value> = std::iter::once(first).chain(rest).collect();
        let lists = scores.iter().map(|_| likeliest.by_ref().take(k).collect());
        let lists: Vec<Value> = std::iter::once(Value::Null).chain(lists).collect();
        json!({"meta_info": {
            "finish_reason": {"type": "length"}, "prompt_tokens": ids.len(),
            "weight_version": "1", "input_token_logprobs": logprobs, "input_top_logprobs": lists,
        }})
    });
    let mut items: Vec<Value> = items.collect();
    let answer = if several { Value::Array(items) } else { items.remove(0) };
    Reply::json(answer.to_string())
}
