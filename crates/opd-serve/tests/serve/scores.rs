use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_serve::Options;
use opd_testkit::{GoldenModel, assert_close};
use serde_json::{Value, json};

use crate::client::{Site, logprobs, number, request, with};

/// In-process scores of all tokens but each sequence's first.
fn in_process(site: &Site, sequences: &[Vec<u32>], t: f32, wanted: Wanted) -> TeacherScores {
    let pairs = sequences.iter().map(|s| ScoredSequence { prompt: &s[..1], response: &s[1..] });
    let request = ScoreRequest { sequences: pairs.collect(), temperature: t, wanted, sources: &[] };
    site.teacher.score(&request).unwrap()
}

fn rows(scores: &TeacherScores) -> Vec<Vec<f32>> {
    scores.logprobs.iter().map(|row| row.iter().map(|x| x.unwrap()).collect()).collect()
}

#[test]
fn have_the_bits_of_the_teacher_in_process_and_are_those_of_transformers() {
    for golden in GoldenModel::all() {
        let site = Site::with(opd_testkit::ModelDir::copy(&golden.dir), Options::default());
        let expected = rows(&in_process(&site, &golden.sequences, 1.0, Wanted::Sampled));
        let batch = site.generate(&request(json!(golden.sequences)));
        for (i, sequence) in golden.sequences.iter().enumerate() {
            assert_eq!(logprobs(&batch[i]), expected[i]);
            let single = site.generate(&request(json!(sequence)));
            assert_eq!(logprobs(&single), expected[i]);
            let got: Vec<f64> = expected[i].iter().map(|&x| x.into()).collect();
            assert_close(&got, &golden.cases[i].log_probs, 1e-4);
        }
    }
}

#[test]
fn temperature_is_honoured_and_said() {
    let golden = GoldenModel::load("qwen3_tied");
    let site = Site::of("qwen3_tied", Options::default());
    let sequence = &golden.sequences[0];
    let temperature = golden.temperature;
    let asked = [
        json!({ "sampling_params": { "temperature": temperature, "max_new_tokens": 0 } }),
        json!({ "input_logprob_temperature": temperature }),
    ];
    for fields in asked {
        let answer = site.generate(&with(request(json!(sequence)), &fields));
        assert_eq!(answer["meta_info"]["input_logprob_temperature"], json!(temperature));
        let got: Vec<f64> = logprobs(&answer).into_iter().map(f64::from).collect();
        assert_close(&got, &golden.cases[0].log_probs_at_temperature, 1e-4);
    }
    // Greedy has no softmax: scores are those at 1, as the other servers give them.
    let greedy = json!({ "sampling_params": { "temperature": 0, "max_new_tokens": 0 } });
    let greedy = site.generate(&with(request(json!(sequence)), &greedy));
    assert_eq!(greedy["meta_info"]["input_logprob_temperature"], json!(1.0));
    assert_eq!(logprobs(&greedy), logprobs(&site.generate(&request(json!(sequence)))));
}

#[test]
fn a_start_spares_the_prompt() {
    let site = Site::of("llama_tied", Options::default());
    let sequence = GoldenModel::load("llama_tied").sequences[1].clone();
    let all = logprobs(&site.generate(&request(json!(sequence))));
    let n = sequence.len();
    for start in [1, 5, n - 1] {
        let start_len = json!({ "logprob_start_len": start });
        let answer = site.generate(&with(request(json!(sequence)), &start_len));
        let entries = answer["meta_info"]["input_token_logprobs"].as_array().unwrap();
        assert_eq!(entries.len(), n - start);
        assert_eq!(entries[0], json!([null, sequence[start], null]));
        assert_eq!(logprobs(&answer), all[start..]);
    }
    for nothing in [json!(-1), json!(n)] {
        let answer = site
            .generate(&with(request(json!(sequence)), &json!({ "logprob_start_len": nothing })));
        assert_eq!(answer["meta_info"]["input_token_logprobs"], json!([]));
    }
}

fn lists(answer: &Value, field: &str) -> Vec<Vec<(u32, f32)>> {
    let all = answer["meta_info"][field].as_array().unwrap();
    assert!(all[0].is_null(), "the first of {field} must be null");
    let entry = |entry: &Value| (entry[1].as_u64().unwrap() as u32, number(&entry[0]));
    all[1..].iter().map(|list| list.as_array().unwrap().iter().map(entry).collect()).collect()
}

#[test]
fn the_likeliest_ids_are_the_teachers() {
    let site = Site::of("qwen3_untied", Options::default());
    let sequences = GoldenModel::load("qwen3_untied").sequences;
    let expected = in_process(&site, &sequences, 1.0, Wanted::TopK(4)).top.unwrap();
    let expected: Vec<_> = expected.ids.into_iter().zip(expected.logprobs).collect();
    let fields = json!({ "top_logprobs_num": 4 });
    let batch = site.generate(&with(request(json!(sequences)), &fields));
    let got: Vec<_> = batch
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|answer| lists(answer, "input_top_logprobs"))
        .flatten()
        .collect();
    assert_eq!(got, expected);
    // The distribution behind the last token, as SGLang has it.
    let next = batch[0]["meta_info"]["output_top_logprobs"][0].as_array().unwrap();
    assert_eq!(next.len(), 4);

    let flat = json!({ "top_logprobs_num": 4, "return_flat_raw_top_logprobs": true });
    let flat = site.generate(&with(request(json!(sequences[0])), &flat));
    let meta = &flat["meta_info"];
    let n = sequences[0].len() - 1;
    assert_eq!(meta["input_top_logprobs_shape"], json!([n, 4]));
    assert_eq!(meta["input_top_logprobs_null_prefix"], 1);
    let ids: Vec<u32> =
        serde_json::from_value(meta["input_top_logprobs_idx_flat"].clone()).unwrap();
    let values: Vec<f32> =
        serde_json::from_value(meta["input_top_logprobs_val_flat"].clone()).unwrap();
    assert_eq!(ids.into_iter().zip(values).collect::<Vec<_>>(), expected[..n * 4]);
}

#[test]
fn named_ids_are_scored_for_all_positions_or_for_each() {
    let site = Site::of("qwen2_tied", Options::default());
    let sequences = GoldenModel::load("qwen2_tied").sequences;
    let k = 3;
    let n: usize = sequences.iter().map(|s| s.len() - 1).sum();
    let ids: Vec<u32> = (0..n * k).map(|i| (i * 7919 % 320) as u32).collect();
    let expected = in_process(&site, &sequences, 0.7, Wanted::Ids { k, ids: &ids }).top.unwrap();
    let expected: Vec<_> = ids.iter().copied().zip(expected.logprobs).collect();
    let mut rest: Vec<Vec<u32>> = ids.chunks(k).map(<[u32]>::to_vec).collect();
    let per_position: Vec<Vec<Vec<u32>>> =
        sequences.iter().map(|s| rest.drain(..s.len() - 1).collect()).collect();
    let fields = json!({
        "token_ids_logprob_per_position": per_position,
        "input_logprob_temperature": 0.7,
    });
    let batch = site.generate(&with(request(json!(sequences)), &fields));
    let got: Vec<_> = batch
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|answer| lists(answer, "input_token_ids_logprobs"))
        .flatten()
        .collect();
    assert_eq!(got, expected);

    let same = [7, 9, 11];
    let ids = same.repeat(sequences[0].len() - 1);
    let expected =
        in_process(&site, &sequences[..1], 1.0, Wanted::Ids { k, ids: &ids }).top.unwrap();
    let fields = json!({ "token_ids_logprob": same });
    let answer = site.generate(&with(request(json!(sequences[0])), &fields));
    let got = lists(&answer, "input_token_ids_logprobs").concat();
    assert_eq!(got, ids.into_iter().zip(expected.logprobs).collect::<Vec<_>>());
    assert_eq!(answer["meta_info"]["output_token_ids_logprobs"][0].as_array().unwrap().len(), 3);
}

#[test]
fn settings_may_differ_within_a_batch() {
    let site = Site::of("qwen3_tied", Options::default());
    let sequences = GoldenModel::load("qwen3_tied").sequences;
    let at = |t: f64| json!({ "temperature": t, "max_new_tokens": 0 });
    let fields = json!({
        "sampling_params": [at(1.0), at(0.5), at(1.0)],
        "return_logprob": [true, true, false],
        "logprob_start_len": [0, 5, 0],
        "top_logprobs_num": [0, 2, 0],
        "rid": ["a", "b", "c"],
    });
    let batch = site.generate(&with(request(json!(sequences)), &fields));
    let cold = rows(&in_process(&site, &sequences, 0.5, Wanted::Sampled));
    let warm = rows(&in_process(&site, &sequences, 1.0, Wanted::Sampled));
    assert_eq!(logprobs(&batch[0]), warm[0]);
    assert_eq!(logprobs(&batch[1]), cold[1][5..]);
    assert_eq!(lists(&batch[1], "input_top_logprobs").len(), sequences[1].len() - 6);
    assert_eq!(batch[0]["meta_info"].get("input_top_logprobs"), None);
    assert_eq!(batch[2]["meta_info"].get("input_token_logprobs"), None);
    assert_eq!(batch[2]["meta_info"]["prompt_tokens"], sequences[2].len());
    assert_eq!(batch[1]["meta_info"]["id"], "b");
}

#[test]
fn the_longest_sequence_is_the_context() {
    let site = Site::of("llama_tied", Options { max_batch_tokens: 100, ..Options::default() });
    let sequence: Vec<u32> = (0..512).map(|i| i * 31 % 320).collect();
    let got = logprobs(&site.generate(&request(json!(sequence))));
    let sequences = [sequence];
    assert_eq!(got, rows(&in_process(&site, &sequences, 1.0, Wanted::Sampled))[0]);
    let one = site.generate(&request(json!([7])));
    assert_eq!(one["meta_info"]["input_token_logprobs"], json!([[null, 7, null]]));
}
