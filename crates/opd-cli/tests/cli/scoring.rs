use opd_testkit::{GoldenModel, assert_close};
use serde_json::{Value, json};

use crate::{
    command::{Workplace, numbers, records},
    models,
};

fn score(work: &Workplace, model: &GoldenModel, flags: &[&str]) -> Vec<Value> {
    let args = ["score", "--input", "in.jsonl", "--output", "out.jsonl", "--model"];
    let args = args.into_iter().chain([model.dir.to_str().unwrap()]).chain(flags.iter().copied());
    work.opd(args).succeeds();
    records(&work.path("out.jsonl"))
}

fn write(work: &Workplace, rows: &[Value]) {
    let lines = rows.iter().map(|row| format!("{row}\n"));
    work.write("in.jsonl", &lines.collect::<String>());
}

#[test]
fn agrees_with_transformers() {
    for golden in GoldenModel::all() {
        let work = Workplace::new();
        let rows = golden.sequences.iter().map(|tokens| json!({ "tokens": tokens }));
        write(&work, &rows.collect::<Vec<_>>());
        let temperature = golden.temperature.to_string();
        let plain = score(&work, &golden, &[]);
        let tempered = score(&work, &golden, &["--temperature", &temperature]);
        assert_eq!(plain.len(), golden.cases.len());
        for ((case, plain), tempered) in golden.cases.iter().zip(&plain).zip(&tempered) {
            assert_close(&numbers(plain, "log_probs"), &case.log_probs, 1e-4);
            assert_close(&numbers(plain, "entropies"), &case.entropy, 1e-4);
            let expected = &case.log_probs_at_temperature;
            assert_close(&numbers(tempered, "log_probs"), expected, 1e-4);
        }
    }
}

#[test]
fn prompt_len_cuts_and_id_is_copied() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_tied");
    let tokens = &golden.sequences[1];
    let n = tokens.len();
    let lines = [
        json!({ "tokens": tokens, "prompt_len": 3, "id": { "of": [1, "two"] } }).to_string(),
        json!({ "tokens": tokens, "prompt_len": n, "other": true }).to_string(),
        String::new(),
        format!("{{\"id\": 12345678901234567890123.50, \"tokens\": [{}]}}", tokens[0]),
        json!({ "tokens": tokens, "id": null }).to_string(),
    ];
    work.write("in.jsonl", &(lines.join("\n") + "\n"));
    let out = score(&work, &golden, &["--quiet"]);
    assert_eq!(out.len(), 4, "a blank line is no record");
    let expected = &golden.cases[1].log_probs[2..];
    assert_close(&numbers(&out[0], "log_probs"), expected, 1e-4);
    assert_eq!(out[0]["id"], json!({ "of": [1, "two"] }));
    assert_eq!(out[1], json!({ "log_probs": [], "entropies": [] }));
    assert_eq!(numbers(&out[3], "entropies").len(), n - 1);
    assert_eq!(out[3].get("id"), Some(&Value::Null));
    let text = std::fs::read_to_string(work.path("out.jsonl")).unwrap();
    assert!(text.contains("12345678901234567890123.50"), "copied byte for byte: {text}");
}

#[test]
fn numbers_do_not_depend_on_what_else_is_in_the_file() {
    let work = Workplace::new();
    let golden = GoldenModel::load("llama3_rope_untied");
    let rows: Vec<Value> = (0..200)
        .map(|i| json!({ "tokens": golden.sequences[i % 3], "prompt_len": 1 + i % 4 }))
        .collect();
    write(&work, &rows);
    let together = score(&work, &golden, &["--quiet"]);
    for i in [0, 57, 199] {
        write(&work, &rows[i..=i]);
        let alone = score(&work, &golden, &["--quiet", "--threads", "1"]);
        for field in ["log_probs", "entropies"] {
            assert_close(&numbers(&together[i], field), &numbers(&alone[0], field), 1e-5);
        }
    }
}

#[test]
fn text_is_scored_with_the_models_tokenizer() {
    let work = Workplace::new();
    let model = models::digits(&work, "model", 1);
    let id = |digit: u32| digit + 2;
    let response = [id(1), id(3), id(2)];
    let rows = format!(
        "{}\n{}\n",
        json!({ "prompt": "312=", "response": "132" }),
        json!({ "tokens": [id(3), id(1), id(2), 12, response[0], response[1], response[2]], "prompt_len": 4 }),
    );
    work.write("in.jsonl", &rows);
    let model = model.display();
    work.line(&format!("score --model {model} --input in.jsonl --output out.jsonl")).succeeds();
    let out = records(&work.path("out.jsonl"));
    assert_eq!(out[0]["tokens"], json!(response));
    assert_eq!(out[0]["log_probs"], out[1]["log_probs"]);
    assert_eq!(out[1].get("tokens"), None);
    assert_eq!(numbers(&out[1], "log_probs").len(), 3);
}

#[test]
fn an_empty_file_gives_an_empty_file() {
    let work = Workplace::new();
    work.write("in.jsonl", "");
    assert!(score(&work, &GoldenModel::load("qwen2_tied"), &[]).is_empty());
}
