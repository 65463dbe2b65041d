use opd_batch::{Teacher, Wanted};
use opd_teacher::{SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpServer, Reply};
use serde_json::Value;

use crate::{
    quick,
    recorded::{bytes, exchanges, ids, named},
    request,
};

/// A server that knows the recorded requests only, compared as JSON: ours are the same.
#[test]
fn our_requests_are_those_that_were_recorded() {
    for (kind, name) in [
        ("sglang", "score_T1.0"),
        ("sglang", "score_top3"),
        ("sglang", "start_len_5"),
        ("vllm", "completions_batch3"),
    ] {
        let exchange = named(kind, name);
        let (body, response) = (exchange.body.clone(), bytes(&exchange.response));
        let described = ["get_model_info", "get_v1_models"].map(|name| {
            exchanges(kind)
                .into_iter()
                .find(|e| e.name == name)
                .map(|e| (e.path, bytes(&e.response)))
        });
        let server = HttpServer::start(move |request| {
            let known = described.iter().flatten().find(|(path, _)| *path == request.path);
            if let Some((_, body)) = known {
                return Reply::json(body.clone());
            }
            match serde_json::from_slice::<Value>(&request.body) {
                Ok(sent) if sent == body => Reply::json(response.clone()),
                _ => Reply::status(404, String::from_utf8_lossy(&request.body).into_owned()),
            }
        });
        let (body, wanted) = (&exchange.body, &exchange.response);
        let (got, expected): (Vec<Option<f32>>, Vec<f64>) = match kind {
            "sglang" => {
                let teacher = SglangTeacher::connect(&[server.url()], quick()).unwrap();
                let ids = ids(&body["input_ids"]).unwrap();
                let start = body["logprob_start_len"].as_u64().unwrap() as usize;
                let k = body["top_logprobs_num"].as_u64().unwrap_or(0) as usize;
                let pairs = [(ids[..=start].to_vec(), ids[start + 1..].to_vec())];
                let form = if k > 0 { Wanted::TopK(k) } else { Wanted::Sampled };
                let scores = teacher.score(&request(&pairs, 1.0, form)).unwrap();
                if let Some(top) = &scores.top {
                    let recorded = wanted["meta_info"]["input_top_logprobs"].as_array().unwrap();
                    let recorded: Vec<(u32, f32)> = recorded[1..]
                        .iter()
                        .flat_map(|position| position.as_array().unwrap())
                        .map(|t| (t[1].as_u64().unwrap() as u32, t[0].as_f64().unwrap() as f32))
                        .collect();
                    let got = top.ids.iter().copied().zip(top.logprobs.iter().copied());
                    assert_eq!(got.collect::<Vec<_>>(), recorded);
                }
                let triples = wanted["meta_info"]["input_token_logprobs"].as_array().unwrap();
                let expected = triples[1..].iter().map(|t| t[0].as_f64().unwrap()).collect();
                (scores.logprobs.into_values(), expected)
            }
            _ => {
                // Three prompts in one request: not what a group of samples looks like, but
                // each alone is asked for by the same words.
                let teacher = VllmTeacher::connect(&[server.url()], quick()).unwrap();
                let ids = ids(&body["prompt"][0]).unwrap();
                let pairs = [(ids[..1].to_vec(), ids[1..].to_vec())];
                let error = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap_err();
                let text = format!("{:#}", anyhow::Error::from(error));
                let mut alone = body.clone();
                alone["prompt"] = Value::Array(vec![body["prompt"][0].clone()]);
                let sent: Value =
                    serde_json::from_str(&text[text.find('{').unwrap()..=text.rfind('}').unwrap()])
                        .unwrap();
                assert_eq!(sent, alone);
                continue;
            }
        };
        let expected: Vec<Option<f32>> = expected.into_iter().map(|x| Some(x as f32)).collect();
        assert_eq!(got, expected, "{name}");
    }
}
