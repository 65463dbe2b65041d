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

/// One request per sample, one after the other, as trainers send them that score each sample as
/// soon as it is there.
#[test]
fn prompts_are_kept_between_requests_and_do_not_change_a_bit() {
    let fields = json!({ "logprob_start_len": 19, "top_logprobs_num": 2 });
    let one_by_one = |options: Options| -> Vec<Value> {
        let site = Site::of("qwen3_tied", options);
        let ask = |sequence: &Vec<u32>| site.generate(&with(request(json!(sequence)), &fields));
        groups().iter().map(ask).collect()
    };
    let alone = one_by_one(Options { share_prefixes: false, ..Options::default() });
    let kept = one_by_one(Options::default());
    assert_eq!(scores(&kept), scores(&alone));
    // All sequences begin with the same 20 tokens, of which the last one is asked what follows it.
    let cached_tokens: Vec<u64> =
        kept.iter().map(|answer| cached(std::slice::from_ref(answer))).collect();
    assert_eq!(cached_tokens[0], 0);
    assert_eq!(cached_tokens[1..], [19; 14][..cached_tokens.len() - 1]);
    let none = one_by_one(Options { max_kept_bytes: 0, ..Options::default() });
    assert_eq!((scores(&none), cached(&none)), (scores(&alone), 0));
}

#[test]
fn what_is_kept_is_forgotten_on_request() {
    let site = Site::of("qwen3_tied", Options::default());
    let body = with(request(json!(groups()[0])), &json!({ "logprob_start_len": 19 }));
    let cached_tokens = || cached(&[site.generate(&body)]);
    assert_eq!([cached_tokens(), cached_tokens()], [0, 19]);
    assert_eq!(site.send("POST", "/flush_cache", "", b"").status, 200);
    assert_eq!([cached_tokens(), cached_tokens()], [0, 19]);
}

/// Later turns of a conversation begin with what earlier ones were.
#[test]
fn what_is_kept_grows_with_a_conversation() {
    let site = Site::of("llama3_rope_untied", Options::default());
    let tokens: Vec<u32> = (0..90).map(|i| (i * 7 + 3) % 250).collect();
    let plain = Site::of("llama3_rope_untied", Options { max_kept_bytes: 0, ..Options::default() });
    for (turn, end) in [30, 50, 70, 90].into_iter().enumerate() {
        let fields = json!({ "logprob_start_len": end - 10 });
        let body = with(request(json!(&tokens[..end])), &fields);
        let answer = site.generate(&body);
        assert_eq!(logprobs(&answer), logprobs(&plain.generate(&body)), "turn {turn}");
        let expected = if turn == 0 { 0 } else { end - 30 };
        assert_eq!(cached(&[answer]) as usize, expected, "turn {turn}");
    }
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

    /// Whatever was kept of earlier batches, and however little room there is for it.
    #[test]
    fn what_is_kept_never_changes_a_score(
        batches in prop::collection::vec(
            prop::collection::vec((0u32..2, 16usize..40, 0usize..50, prop::collection::vec(0u32..3, 0..6)), 1..6),
            1..5,
        ),
        budget in 8usize..200,
        kept_kib in 0usize..200,
    ) {
        let options = Options { max_batch_tokens: budget, max_kept_bytes: kept_kib << 10, ..Options::default() };
        let site = Site::of("qwen2_tied", options);
        let plain = Site::of("qwen2_tied", Options { share_prefixes: false, ..Options::default() });
        for batch in batches {
            let start = batch.iter().map(|(_, _, start, _)| *start).min().unwrap_or(0);
            let sequences: Vec<Vec<u32>> = batch
                .iter()
                .map(|(first, n, _, own)| (0..*n as u32).map(|i| i + first * 50).chain(own.iter().copied()).collect())
                .collect();
            let start = start.min(sequences.iter().map(Vec::len).min().unwrap_or(1) - 1);
            let body = with(request(json!(sequences)), &json!({ "logprob_start_len": start }));
            let (got, expected) = (site.generate(&body), plain.generate(&body));
            prop_assert_eq!(scores(got.as_array().unwrap()), scores(expected.as_array().unwrap()));
        }
    }
}
