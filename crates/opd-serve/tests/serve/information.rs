use opd_serve::Options;
use opd_testkit::{GoldenModel, ModelDir};
use serde_json::json;

use crate::client::{Site, request};

#[test]
fn the_model_introduces_itself() {
    let site = Site::of("llama3_rope_untied", Options::default());
    for path in ["/model_info", "/get_model_info"] {
        let info = site.get(path).ok();
        assert_eq!(info["served_model_name"], "teacher");
        assert_eq!(info["architectures"], json!(["LlamaForCausalLM"]));
        assert_eq!(info["model_type"], "llama");
        assert_eq!(info["is_generation"], true);
        assert_eq!((&info["vocab_size"], &info["max_model_len"]), (&json!(320), &json!(512)));
        for beyond in ["input_logprob_temperature", "token_ids_logprob_per_position"] {
            assert_eq!(info[beyond], true);
        }
    }
    for path in ["/server_info", "/get_server_info"] {
        let info = site.get(path).ok();
        assert_eq!(
            (&info["context_length"], &info["max_req_input_len"]),
            (&json!(512), &json!(513))
        );
    }
    assert_eq!(site.send("POST", "/flush_cache", "", b"").status, 200);
    let models = site.get("/v1/models").ok();
    assert_eq!(models["data"][0]["id"], "teacher");
    assert_eq!(models["data"][0]["max_model_len"], 512);
    for path in ["/health", "/ready", "/ping", "/health_generate"] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
}

#[test]
fn other_weights_are_another_version() {
    let version = |site: &Site| {
        let said = site.generate(&request(json!([1, 2])))["meta_info"]["weight_version"].clone();
        assert_eq!(site.get("/model_info").ok()["weight_version"], said);
        said
    };
    let one = version(&Site::of("qwen3_tied", Options::default()));
    assert_eq!(version(&Site::of("qwen3_tied", Options::default())), one);
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(version(&Site::with(dir, Options::default())), one);
}

#[test]
fn an_answer_has_the_fields_of_sglang() {
    let site = Site::of("qwen3_tied", Options::default());
    let answer = site.generate(&request(json!([5, 100, 200])));
    assert_eq!((&answer["text"], &answer["output_ids"]), (&json!(""), &json!([])));
    let meta = answer["meta_info"].as_object().unwrap();
    let fields = [
        "id",
        "finish_reason",
        "prompt_tokens",
        "weight_version",
        "num_retractions",
        "input_token_logprobs",
        "output_token_logprobs",
        "output_token_logprobs_length",
        "reasoning_tokens",
        "completion_tokens",
        "cached_tokens",
        "weight_versions",
        "cached_tokens_details",
        "dp_rank",
        "e2e_latency",
        "response_sent_to_client_ts",
    ];
    for field in fields {
        assert!(meta.contains_key(field), "{field}");
    }
    assert_eq!(meta["finish_reason"], json!({ "type": "length", "length": 0 }));
    assert_eq!(meta["input_token_logprobs"][0], json!([null, 5, null]));
    assert_eq!((&meta["prompt_tokens"], &meta["completion_tokens"]), (&json!(3), &json!(0)));
    assert!(meta["e2e_latency"].as_f64().unwrap() > 0.0);
}

#[test]
fn metrics_count() {
    let site = Site::of("qwen3_tied", Options::default());
    site.generate(&request(json!([[1, 2, 3, 4], [1, 2, 3, 5]])));
    site.post("/generate", &request(json!([])));
    let answer = site.get("/metrics");
    assert!(answer.head.contains("openmetrics-text"), "{answer:?}");
    for line in [
        r#"opd_requests_total{endpoint="/generate",status="200"} 1"#,
        r#"opd_requests_total{endpoint="/generate",status="400"} 1"#,
        "opd_sequences_total 2",
        "opd_tokens_total 8",
        "opd_computed_tokens_total 3",
        "opd_shared_tokens_total 3",
        "opd_queue_depth 0",
        "opd_in_flight 0",
        r#"opd_request_seconds_count{endpoint="/generate"} 2"#,
        "opd_queue_seconds_count 1",
    ] {
        assert!(answer.body.lines().any(|said| said == line), "no {line} in {}", answer.body);
    }
}
