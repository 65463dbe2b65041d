use opd_batch::{ScoreRequest, ScoredSequence, Teacher, Wanted};
use opd_serve::Options;
use opd_testkit::GoldenModel;
use serde_json::{Value, json};

use crate::client::{Site, number};

#[test]
fn prompt_log_probs_are_the_teachers_in_vllms_form() {
    let site = Site::of("qwen3_tied", Options::default());
    let sequences = GoldenModel::load("qwen3_tied").sequences;
    let pairs = sequences.iter().map(|s| ScoredSequence { prompt: &s[..1], response: &s[1..] });
    let expected = site
        .teacher
        .score(&ScoreRequest {
            sequences: pairs.collect(),
            temperature: 1.0,
            wanted: Wanted::TopK(3),
            sources: &[],
        })
        .unwrap();
    let top = expected.top.unwrap();
    let answer = site
        .post(
            "/v1/completions",
            &json!({
                "model": "teacher", "prompt": sequences, "max_tokens": 1, "temperature": 0,
                "prompt_logprobs": 3, "return_token_ids": true,
            }),
        )
        .ok();
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let usage =
        json!({ "prompt_tokens": tokens, "total_tokens": tokens + 3, "completion_tokens": 3 });
    assert_eq!(answer["usage"], usage);
    let mut position = 0;
    for (i, sequence) in sequences.iter().enumerate() {
        let choice = &answer["choices"][i];
        assert_eq!(choice["index"], i);
        assert_eq!(choice["prompt_token_ids"], json!(sequence));
        assert_eq!(choice["token_ids"].as_array().unwrap().len(), 1);
        let lists = choice["prompt_logprobs"].as_array().unwrap();
        assert_eq!((lists.len(), &lists[0]), (sequence.len(), &Value::Null));
        for (j, list) in lists.iter().enumerate().skip(1) {
            let own = &list[sequence[j].to_string()];
            let score = expected.logprobs.iter().nth(i).unwrap()[j - 1].unwrap();
            assert_eq!(number(&own["logprob"]), score);
            let likeliest = &top.ids[position * 3..][..3];
            for (place, id) in likeliest.iter().enumerate() {
                let entry = &list[id.to_string()];
                assert_eq!(entry["rank"], place + 1);
                assert_eq!(number(&entry["logprob"]), top.logprobs[position * 3 + place]);
            }
            let inside = likeliest.contains(&sequence[j]);
            assert_eq!(list.as_object().unwrap().len(), if inside { 3 } else { 4 });
            assert!(inside || own["rank"].as_u64().unwrap() > 3);
            position += 1;
        }
    }
    // Greedy: the next token is the likeliest one, as transformers has it.
    let greedy = GoldenModel::load("qwen3_tied").greedy_from_sequence_0[0];
    assert_eq!(answer["choices"][0]["token_ids"], json!([greedy]));
}

#[test]
fn nothing_is_generated_for_max_tokens_0() {
    let site = Site::of("qwen3_tied", Options::default());
    let body =
        json!({ "prompt": [5, 6, 7], "max_tokens": 0, "prompt_logprobs": 0, "temperature": 0.5 });
    let answer = site.post("/v1/completions", &body).ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["token_ids"], Value::Null);
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    assert_eq!(choice["prompt_logprob_temperature"], 0.5);
    assert_eq!(choice["prompt_logprobs"].as_array().unwrap().len(), 3);
}

#[test]
fn faults_are_openais() {
    let site = Site::of("qwen3_tied", Options::default());
    let says = |body: Value| {
        let answer = site.post("/v1/completions", &body);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], answer.status);
        (error["type"].as_str().unwrap().to_owned(), answer.fault().1)
    };
    assert_eq!(
        says(json!({ "model": "nope", "prompt": [7], "max_tokens": 1 })),
        ("NotFoundError".into(), "The model `nope` does not exist. Valid aliases: teacher.".into())
    );
    for (body, expected) in [
        (
            json!({ "prompt": [7] }),
            "max_tokens: this server scores and generates at most one token; expected 0 or 1, got none, which means 16",
        ),
        (json!({ "max_tokens": 1 }), "prompt is missing"),
        (
            json!({ "prompt": [7], "max_tokens": 1, "prompt_logprobs": -2 }),
            "prompt_logprobs must be from 0 to the vocabulary of 320, got -2",
        ),
        (
            json!({ "prompt": [7], "max_tokens": 1, "stream": true }),
            "stream: this server scores prompts (prompt_logprobs) alone; leave it out",
        ),
        (json!({ "prompt": [7], "max_tokens": 1, "top_p": 0 }), "top_p must be in (0, 1], got 0."),
        (
            json!({ "prompt": ["a", "b"], "max_tokens": 1 }),
            "prompt: the model's directory has no tokenizer.json; send token ids",
        ),
    ] {
        assert_eq!(says(body), ("BadRequestError".into(), expected.to_owned()));
    }
}
