//! Recorded answers to requests of three different prompts, which the teachers do not send: they
//! ask for samples of one prompt at a time.

use std::{fs, path::Path};

use opd_batch::ScoredSequence;
use opd_http::Verdict;
use serde_json::Value;

use crate::{
    protocol::{Protocol, Question, Scored},
    sglang::Sglang,
    vllm::Vllm,
};

/// Body of the request, and answer.
fn exchange(server: &str, name: &str) -> (Value, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{server}.json"));
    let all: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let held = all.into_iter().find(|exchange| exchange["name"] == name).unwrap();
    (held["request"]["body"].clone(), held["response"].clone())
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The verdict on an answer to sequences whose prompts end behind the places `starts`.
fn judge<P: Protocol>(
    protocol: &P,
    sequences: &[Vec<u32>],
    starts: &[usize],
    k: usize,
    answer: &Value,
) -> Verdict<Vec<Scored>> {
    let cut = sequences.iter().zip(starts).map(|(ids, start)| {
        let (prompt, response) = ids.split_at(start + 1);
        ScoredSequence { prompt, response }
    });
    let sequences: Vec<ScoredSequence<'_>> = cut.collect();
    let question =
        Question { sequences: &sequences, temperature: 1.0, k, named: &[], vocab_size: None };
    protocol.judge(&question, answer.to_string().as_bytes())
}

#[track_caller]
fn accepted(verdict: Verdict<Vec<Scored>>) -> Vec<Scored> {
    match verdict {
        Verdict::Accept(scored) => scored,
        other => panic!("{other:?}"),
    }
}

/// `[log-prob, id, null]` entries.
fn triples(entries: &Value) -> Vec<(u32, f32)> {
    let triple = |t: &Value| (t[1].as_u64().unwrap() as u32, t[0].as_f64().unwrap() as f32);
    entries.as_array().unwrap().iter().map(triple).collect()
}

#[track_caller]
fn as_sglang_recorded(scored: &Scored, item: &Value, k: usize) {
    let meta = &item["meta_info"];
    let own = triples(&meta["input_token_logprobs"].as_array().unwrap()[1..].to_vec().into());
    let logprobs: Vec<Option<f32>> = own.iter().map(|(_, logprob)| Some(*logprob)).collect();
    assert_eq!(scored.logprobs, logprobs);
    let top = |lists: &Value| lists.as_array().unwrap()[1..].iter().flat_map(triples).collect();
    let top: Vec<(u32, f32)> = if k > 0 { top(&meta["input_top_logprobs"]) } else { Vec::new() };
    assert_eq!(scored.top, top);
    assert_eq!(scored.version.as_deref(), Some("default"));
}

#[test]
fn a_batch_of_sglang() {
    let (body, answer) = exchange("sglang", "batch3");
    let sequences: Vec<Vec<u32>> = body["input_ids"].as_array().unwrap().iter().map(ids).collect();
    let k = body["top_logprobs_num"].as_u64().unwrap() as usize;
    assert_eq!((sequences.len(), k), (3, 2));
    let scored = accepted(judge(&Sglang::default(), &sequences, &[0; 3], k, &answer));
    for (scored, item) in scored.iter().zip(answer.as_array().unwrap()) {
        as_sglang_recorded(scored, item, k);
    }
    assert_eq!(scored.iter().map(|s| s.logprobs.len()).collect::<Vec<_>>(), [14, 3, 19]);
    // Answers in another order than asked are noticed.
    let mut swapped = answer;
    swapped.as_array_mut().unwrap().swap(0, 2);
    let verdict = judge(&Sglang::default(), &sequences, &[0; 3], k, &swapped);
    assert!(matches!(verdict, Verdict::Retry(_)), "{verdict:?}");
}

/// Each sequence had settings of its own: the second wanted no log-probs.
#[test]
fn a_batch_of_sglang_with_settings_by_sequence() {
    let (body, answer) = exchange("sglang", "batch3_perseq");
    let sequences: Vec<Vec<u32>> = body["input_ids"].as_array().unwrap().iter().map(ids).collect();
    assert_eq!(body["logprob_start_len"], serde_json::json!([0, -1, 5]));
    let verdict = judge(&Sglang::default(), &sequences, &[0, 0, 5], 0, &answer);
    let Verdict::Retry(why) = verdict else { panic!("{verdict:?}") };
    assert!(why.starts_with("sequence 1 of the request: "), "{why}");
    for (i, start, k) in [(0, 0, 0), (2, 5, 2)] {
        let alone = judge(&Sglang::default(), &sequences[i..=i], &[start], k, &answer[i]);
        as_sglang_recorded(&accepted(alone)[0], &answer[i], k);
    }
}

#[test]
fn a_batch_of_vllm() {
    let (body, answer) = exchange("vllm", "completions_batch3");
    let sequences: Vec<Vec<u32>> = body["prompt"].as_array().unwrap().iter().map(ids).collect();
    assert_eq!(sequences.len(), 3);
    let expected: Vec<Vec<Option<f32>>> = sequences
        .iter()
        .zip(answer["choices"].as_array().unwrap())
        .map(|(ids, choice)| {
            let logprob = |(t, id): (usize, &u32)| {
                let entry = &choice["prompt_logprobs"][t][id.to_string()];
                Some(entry["logprob"].as_f64().unwrap() as f32)
            };
            ids.iter().enumerate().skip(1).map(logprob).collect()
        })
        .collect();
    let values = |answer: &Value| -> Vec<Vec<Option<f32>>> {
        let scored = accepted(judge(&Vllm::default(), &sequences, &[0; 3], 0, answer));
        scored.into_iter().map(|scored| scored.logprobs).collect()
    };
    assert_eq!(values(&answer), expected);
    // Choices go by their index, wherever they stand.
    let mut swapped = answer;
    swapped["choices"].as_array_mut().unwrap().swap(0, 2);
    assert_eq!(values(&swapped), expected);
}
