use opd_serve::Options;
use opd_testkit::{GoldenModel, ModelDir};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{Site, logprobs, request, with};

/// Groups of samples of a few prompts, two of which begin alike, and a sample that is a prompt.
fn groups() -> Vec<Vec<u32>> {
    let tokens = |n: u32, step: u32| (0..n).map(move |i| (i * step + 3) % 320);
    let mut sequences = Vec::new();
    for prompt in 0..3 {
        let own = (0..10 * prompt).map(|i| 100 + prompt + i);
        let prompt: Vec<u32> = tokens(20, 7).chain(own).collect();
        for sample in 0..4 {
            let own = (0..5 + sample).map(|i| 200 + sample + i);
            sequences.push(prompt.iter().copied().chain(own).collect());
        }
        sequences.push(prompt);
    }
    sequences
}

fn score(options: Options, fields: &Value) -> Vec<Value> {
    let site = Site::of("qwen3_tied", options);
    let answer = site.generate(&with(request(json!(groups())), fields));
    answer.as_array().unwrap().clone()
}

/// Everything but what differs from request to request.
fn scores(answers: &[Value]) -> Vec<Value> {
    let own = ["id", "e2e_latency", "response_sent_to_client_ts", "cached_tokens"];
    let strip = |answer: &Value| {
        let mut meta = answer["meta_info"].as_object().unwrap().clone();
        meta.retain(|field, _| !own.contains(&field.as_str()));
        Value::Object(meta)
    };
    answers.iter().map(strip).collect()
}

fn cached(answers: &[Value]) -> u64 {
    answers.iter().map(|answer| answer["meta_info"]["cached_tokens"].as_u64().unwrap()).sum()
}

#[test]
fn sharing_and_the_token_budget_do_not_change_a_bit() {
    for fields in [
        json!({}),
        json!({ "top_logprobs_num": 3, "logprob_start_len": 4 }),
        json!({ "token_ids_logprob": [1, 2], "input_logprob_temperature": 0.6 }),
    ] {
        let alone = score(Options { share_prefixes: false, ..Options::default() }, &fields);
        assert_eq!(cached(&alone), 0);
        for max_batch_tokens in [4096, 100, 33, 7] {
            let shared = score(Options { max_batch_tokens, ..Options::default() }, &fields);
            assert_eq!(scores(&shared), scores(&alone), "budget {max_batch_tokens}");
            if max_batch_tokens == 4096 {
                assert!(cached(&shared) >= 20 * 3 + 29 * 4 + 39 * 4, "{}", cached(&shared));
            }
        }
    }
}

/// With enough to do each thread computes rounds of its own.
#[test]
fn threads_do_not_change_a_bit() {
    let tokens = |n: u32, from: u32| (0..n).map(move |i| (i * (2 * from + 3) + from) % 320);
    let sequences: Vec<Vec<u32>> =
        (0..48).map(|i| tokens(150, i / 6).chain(tokens(20 + i % 7, 100 + i)).collect()).collect();
    let score = |threads, share_prefixes| {
        let options = Options { share_prefixes, ..Options::default() };
        let model = ModelDir::copy(&GoldenModel::load("qwen3_untied").dir);
        let site = Site::on_threads(model, options, threads);
        let fields = json!({ "logprob_start_len": 149, "top_logprobs_num": 2 });
        scores(site.generate(&with(request(json!(sequences)), &fields)).as_array().unwrap())
    };
    let one = score(1, true);
    assert_eq!(one.len(), 48);
    for threads in [2, 3, 8] {
        assert!(score(threads, true) == one, "other scores on {threads} threads");
    }
    assert!(score(3, false) == one, "other scores on 3 threads, nothing shared");
}

#[test]
fn requests_that_wait_together_share_their_prompt() {
    let site = Site::of("qwen2_tied", Options::default());
    let sequences = groups();
    let expected: Vec<_> =
        sequences.iter().map(|s| logprobs(&site.generate(&request(json!(s))))).collect();
    site.server.pause(true);
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let ask = |s: &Vec<u32>| {
            let body = request(json!(s));
            let site = &site;
            scope.spawn(move || site.generate(&body))
        };
        let asked: Vec<_> = sequences.iter().map(ask).collect();
        while site.server.queued() < sequences.len() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        site.server.pause(false);
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let got: Vec<_> = answers.iter().map(logprobs).collect();
    assert_eq!(got, expected);
    assert!(cached(&answers) >= 20 * 12, "{}", cached(&answers));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_batch_scores_as_its_sequences_alone(
        sequences in prop::collection::vec(prop::collection::vec(0u32..3, 1..12), 1..10),
        budget in 1usize..40,
    ) {
        let site = Site::of("llama3_rope_untied", Options { max_batch_tokens: budget, ..Options::default() });
        let batch = site.generate(&request(json!(sequences)));
        for (i, sequence) in sequences.iter().enumerate() {
            let alone = site.generate(&request(json!(sequence)));
            prop_assert_eq!(logprobs(&batch[i]), logprobs(&alone));
        }
    }
}
