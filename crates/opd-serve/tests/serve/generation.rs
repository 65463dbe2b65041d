use opd_serve::Options;
use opd_testkit::{GoldenModel, ModelDir};
use serde_json::json;

use crate::client::{Site, number, request, with};

#[test]
fn one_greedy_token_is_that_of_transformers() {
    for golden in GoldenModel::all() {
        let site = Site::with(ModelDir::copy(&golden.dir), Options::default());
        // The continuation, a token at a time.
        let mut sequence = golden.sequences[0].clone();
        for &expected in &golden.greedy_from_sequence_0[..4] {
            let greedy = json!({ "sampling_params": { "temperature": 0, "max_new_tokens": 1 } });
            let answer = site.generate(&with(request(json!(sequence)), &greedy));
            assert_eq!(answer["output_ids"], json!([expected]));
            let meta = &answer["meta_info"];
            assert_eq!(meta["finish_reason"], json!({ "type": "length", "length": 1 }));
            assert_eq!(meta["completion_tokens"], 1);
            sequence.push(expected);
            // Its log-prob is the one that scoring gives it.
            let scored = site.generate(&request(json!(sequence)));
            let last = &scored["meta_info"]["input_token_logprobs"][sequence.len() - 1];
            assert_eq!(meta["output_token_logprobs"], json!([last]));
        }
    }
}

#[test]
fn draws_are_fixed_by_the_seed_and_follow_the_distribution() {
    let site = Site::of("qwen3_tied", Options::default());
    let prompt = GoldenModel::load("qwen3_tied").sequences[0].clone();
    let n = 600;
    let draw = |seeds: Vec<usize>| {
        let params: Vec<_> = seeds
            .iter()
            .map(|seed| json!({ "temperature": 0.5, "max_new_tokens": 1, "sampling_seed": seed }))
            .collect();
        let fields = json!({ "sampling_params": params, "logprob_start_len": -1 });
        let answers =
            site.generate(&with(request(json!(vec![prompt.clone(); seeds.len()])), &fields));
        let ids = answers.as_array().unwrap().iter();
        ids.map(|answer| answer["output_ids"][0].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let drawn = draw((0..n).collect());
    assert_eq!(draw((0..n).rev().collect()), drawn.iter().rev().copied().collect::<Vec<_>>());
    // The likeliest tokens are drawn as often as they should be, within five standard errors.
    let fields = json!({
        "sampling_params": { "temperature": 0.5, "max_new_tokens": 0 }, "top_logprobs_num": 3,
    });
    let answer = site.generate(&with(request(json!(prompt)), &fields));
    for entry in answer["meta_info"]["output_top_logprobs"][0].as_array().unwrap() {
        let p = f64::from(number(&entry[0])).exp();
        let id = entry[1].as_u64().unwrap();
        let share = drawn.iter().filter(|&&drawn| drawn == id).count() as f64 / n as f64;
        let error = (p * (1.0 - p) / n as f64).sqrt();
        assert!((share - p).abs() < 5.0 * error, "{id}: {share} of {p}");
    }
    let only = json!({ "sampling_params": { "max_new_tokens": 1, "top_k": 1 } });
    let only = site.generate(&with(request(json!(prompt)), &only));
    let greedy = GoldenModel::load("qwen3_tied").greedy_from_sequence_0[0];
    assert_eq!(only["output_ids"], json!([greedy]));
}

#[test]
fn text_is_tokenized_where_there_is_a_tokenizer() {
    let dir = ModelDir::copy(&GoldenModel::load("llama_tied").dir);
    dir.write_tokenizer(&["?", "to", "be", "or", "not"]);
    let site = Site::with(dir, Options::default());
    let text =
        json!({ "input_ids": null, "text": "to be or not to be", "return_text_in_logprobs": true });
    let answer = site.generate(&with(request(json!(null)), &text));
    let ids = site.generate(&request(json!([1, 2, 3, 4, 1, 2])));
    let entries = answer["meta_info"]["input_token_logprobs"].as_array().unwrap();
    for (entry, plain) in
        entries.iter().zip(ids["meta_info"]["input_token_logprobs"].as_array().unwrap())
    {
        assert_eq!((&entry[0], &entry[1]), (&plain[0], &plain[1]));
    }
    assert_eq!(entries[1][2], "be");
    let batch = json!({ "input_ids": null, "text": ["to be", "not"] });
    let batch = site.generate(&with(request(json!(null)), &batch));
    assert_eq!(batch[1]["meta_info"]["input_token_logprobs"], json!([[null, 4, null]]));
    let completion = json!({ "prompt": ["to be", "or"], "max_tokens": 1, "prompt_logprobs": 0, "return_token_ids": true });
    let completion = site.post("/v1/completions", &completion).ok();
    assert_eq!(completion["choices"][0]["prompt_token_ids"], json!([1, 2]));
    assert_eq!(completion["choices"][0]["prompt_logprobs"][1]["2"]["decoded_token"], "be");
    let tokens = site.post("/tokenize", &json!({ "prompt": "not to be" })).ok();
    assert_eq!(tokens, json!({ "count": 3, "max_model_len": 512, "tokens": [4, 1, 2] }));
    let file = site.get("/tokenizer.json").ok();
    assert_eq!(file["model"]["vocab"]["not"], 4);
}
