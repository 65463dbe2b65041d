use opd_batch::Wanted;
use opd_testkit::http::{HttpRequest, Reply};
use serde_json::{Value, json};

use crate::Pair;

/// A log-prob that every token of context changes; exact in f32.
pub(crate) fn logprob(context: &[u32], id: u32) -> f32 {
    let mut hash = 0x9e37_79b9u32;
    for word in context.iter().chain([&id]) {
        hash = (hash ^ word).wrapping_mul(0x85eb_ca6b).rotate_left(13);
    }
    -((hash % 1_000_003) as f32) / 65536.0 - 1e-3
}

/// What a fault-free server says of pairs, as bits.
pub(crate) fn bits(pairs: &[Pair]) -> Vec<Option<u32>> {
    let mut bits = Vec::new();
    for (prompt, response) in pairs {
        let ids = [prompt.as_slice(), response].concat();
        bits.extend((prompt.len()..ids.len()).map(|t| Some(logprob(&ids[..t], ids[t]).to_bits())));
    }
    bits
}

/// Ids and log-probs of the likeliest; made up, in descending order.
pub(crate) fn top(context: &[u32], k: usize) -> Vec<(u32, f32)> {
    let mut top: Vec<(u32, f32)> = (0..k as u32).map(|id| (id, logprob(context, id))).collect();
    top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    top
}

pub(crate) fn k_of(wanted: Wanted<'_>) -> usize {
    match wanted {
        Wanted::TopK(k) => k,
        _ => 0,
    }
}

/// A server's answers, by a version of its weights; `None` for a path that it does not have.
pub(crate) fn answer(request: &HttpRequest, version: &str) -> Option<Value> {
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
    Some(match request.path.as_str() {
        "/model_info" => json!({"model_path": "/m", "weight_version": version}),
        "/weight_info" => json!({"weight_version": version}),
        "/v1/models" => json!({"data": [{"id": "teacher", "root": "/m", "max_model_len": 512}]}),
        "/health" => json!({}),
        "/generate" => generate(&body(), version),
        "/v1/completions" => completions(&body()),
        _ => return None,
    })
}

/// The same as a reply.
pub(crate) fn reply(request: &HttpRequest, version: &str) -> Reply {
    match answer(request, version) {
        Some(answer) => Reply::json(answer.to_string()),
        None => Reply::status(404, r#"{"detail": "Not Found"}"#),
    }
}

pub(crate) fn is_scoring(request: &HttpRequest) -> bool {
    request.method == "POST" && ["/generate", "/v1/completions"].contains(&request.path.as_str())
}

fn ids_of(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn generate(body: &Value, version: &str) -> Value {
    let start = body["logprob_start_len"].as_u64().unwrap() as usize;
    let k = body["top_logprobs_num"].as_u64().unwrap_or(0) as usize;
    let item = |(ids, named): (&Value, &Value)| {
        let ids = ids_of(ids);
        let mut logprobs = vec![json!([null, ids[start], null])];
        let mut tops = vec![Value::Null];
        for t in start + 1..ids.len() {
            logprobs.push(json!([logprob(&ids[..t], ids[t]), ids[t], null]));
            let entries = top(&ids[..t], k);
            tops.push(entries.iter().map(|(id, lp)| json!([lp, id, null])).collect());
        }
        let mut meta = json!({
            "finish_reason": {"type": "length", "length": 0},
            "prompt_tokens": ids.len(),
            "weight_version": version,
            "input_token_logprobs": logprobs,
        });
        if k > 0 {
            meta["input_top_logprobs"] = Value::Array(tops);
        }
        if let Some(lists) = named.as_array() {
            let position = |(t, list): (usize, &Value)| -> Value {
                let ids_here = ids_of(list);
                let context = &ids[..t];
                ids_here.iter().map(|&id| json!([logprob(context, id), id, null])).collect()
            };
            let lists = (start + 1..).zip(lists).map(position);
            meta["input_token_ids_logprobs"] = std::iter::once(Value::Null).chain(lists).collect();
        }
        json!({"text": "", "meta_info": meta})
    };
    let (ids, named) = (&body["input_ids"], &body["token_ids_logprob_per_position"]);
    match ids[0].is_array() {
        true => {
            let each = ids.as_array().unwrap().iter().enumerate();
            each.map(|(i, ids)| item((ids, &named[i]))).collect()
        }
        false => item((ids, named)),
    }
}

fn completions(body: &Value) -> Value {
    let k = body["prompt_logprobs"].as_u64().unwrap() as usize;
    let choice = |(index, ids): (usize, &Value)| {
        let ids = ids_of(ids);
        let mut positions = vec![Value::Null];
        for t in 1..ids.len() {
            let mut position = json!({});
            let sent = (ids[t], logprob(&ids[..t], ids[t]));
            for (id, logprob) in top(&ids[..t], k).into_iter().chain([sent]) {
                position[id.to_string()] = json!({"logprob": logprob, "rank": 1});
            }
            positions.push(position);
        }
        json!({
            "index": index,
            "finish_reason": "length",
            "prompt_logprobs": positions,
            "prompt_token_ids": ids,
        })
    };
    let choices: Vec<Value> =
        body["prompt"].as_array().unwrap().iter().enumerate().map(choice).collect();
    json!({"choices": choices})
}
