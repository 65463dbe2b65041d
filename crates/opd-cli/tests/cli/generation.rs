use opd_testkit::{GoldenModel, assert_close};
use serde_json::{Value, json};

use crate::{
    command::{Workplace, numbers, records},
    models,
};

fn generate(work: &Workplace, golden: &GoldenModel, rows: &[Value], flags: &str) -> Vec<Value> {
    let lines = rows.iter().map(|row| format!("{row}\n"));
    work.write("in.jsonl", &lines.collect::<String>());
    let dir = golden.dir.display();
    let line = format!("generate --model {dir} --input in.jsonl --output out.jsonl {flags}");
    work.line(&line).succeeds();
    records(&work.path("out.jsonl"))
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for golden in GoldenModel::all() {
        let work = Workplace::new();
        let row = json!({ "tokens": golden.sequences[0], "id": "a" });
        let n = golden.greedy_from_sequence_0.len();
        let flags = format!("--max-new-tokens {n} --greedy --ignore-eos");
        let out = generate(&work, &golden, &[row], &flags);
        assert_eq!(out[0]["tokens"], json!(golden.greedy_from_sequence_0));
        assert_eq!((&out[0]["finish_reason"], &out[0]["id"]), (&json!("length"), &json!("a")));
        assert_eq!(numbers(&out[0], "log_probs").len(), n);
    }
}

#[test]
fn log_probs_are_those_that_score_gives() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_untied");
    let rows: Vec<Value> =
        golden.sequences.iter().map(|tokens| json!({ "tokens": tokens })).collect();
    let dir = golden.dir.display();
    for (flags, temperature) in [("--temperature 0.7 --seed 5", 0.7), ("--greedy", 1.0)] {
        let flags = format!("{flags} --max-new-tokens 12 --ignore-eos");
        let out = generate(&work, &golden, &rows, &flags);
        let whole = golden.sequences.iter().zip(&out).map(|(prompt, out)| {
            let new = out["tokens"].as_array().unwrap();
            let tokens: Vec<Value> =
                prompt.iter().map(|&id| json!(id)).chain(new.iter().cloned()).collect();
            json!({ "tokens": tokens, "prompt_len": prompt.len() }).to_string() + "\n"
        });
        work.write("whole.jsonl", &whole.collect::<String>());
        work.line(&format!(
            "score --model {dir} --input whole.jsonl --output scores.jsonl --temperature {temperature}"
        ))
        .succeeds();
        for (out, scores) in out.iter().zip(records(&work.path("scores.jsonl"))) {
            assert_close(&numbers(out, "log_probs"), &numbers(&scores, "log_probs"), 1e-4);
        }
    }
}

/// With one token to draw from, a draw is no draw.
#[test]
fn draws_can_be_narrowed() {
    let golden = GoldenModel::load("qwen3_tied");
    let rows = [json!({ "tokens": golden.sequences[0] })];
    let with = |flags: &str| {
        let flags = format!("--max-new-tokens 12 --ignore-eos {flags}");
        generate(&Workplace::new(), &golden, &rows, &flags)[0]["tokens"].clone()
    };
    let greedy = with("--greedy");
    for flags in ["--top-k 1", "--top-p 0.0001", "--min-p 1"] {
        assert_eq!(with(flags), greedy, "{flags}");
    }
    assert_ne!(with("--seed 3"), greedy);
    // A penalty that nothing which was there before survives.
    let tokens = with("--greedy --repetition-penalty 1e30");
    let tokens: Vec<u64> = tokens.as_array().unwrap().iter().flat_map(Value::as_u64).collect();
    let distinct: std::collections::BTreeSet<u64> = tokens.iter().copied().collect();
    let prompt = |id: &u64| golden.sequences[0].contains(&(*id as u32));
    assert!(distinct.len() == tokens.len() && !tokens.iter().any(prompt), "{tokens:?}");
}

#[test]
fn a_text_ends_before_its_stop_string() {
    let work = Workplace::new();
    let model = models::student(&work).display().to_string();
    work.write("in.jsonl", "{\"prompt\": \"83120975=\"}\n");
    let run = |flags: &str| {
        let line = format!(
            "generate --model {model} --input in.jsonl --output out.jsonl --max-new-tokens 8 {flags}"
        );
        work.line(&line).succeeds();
        records(&work.path("out.jsonl")).remove(0)
    };
    let free = run("--greedy --ignore-eos");
    let text = free["text"].as_str().unwrap();
    assert!(text.starts_with("0123"), "{text}");
    let (stop, first) = ("23", 2);
    let cut = run(&format!("--greedy --ignore-eos --stop {stop}"));
    assert_eq!(
        (cut["text"].as_str(), &cut["finish_reason"]),
        (Some(&text[..first]), &json!("stop"))
    );
    let n = first + 2;
    assert_eq!(cut["tokens"].as_array().unwrap()[..], free["tokens"].as_array().unwrap()[..n]);
}

#[test]
fn a_line_depends_on_seed_and_place_alone() {
    let work = Workplace::new();
    let golden = GoldenModel::load("llama_tied");
    let rows: Vec<Value> = (0..40).map(|i| json!({ "tokens": golden.sequences[i % 3] })).collect();
    let flags = "--max-new-tokens 9 --seed 11 --ignore-eos";
    let all = generate(&work, &golden, &rows, flags);
    let narrow = generate(&work, &golden, &rows, &format!("{flags} --max-sequences 3 --threads 1"));
    assert_eq!(all, narrow);
    let fewer = generate(&work, &golden, &rows[..10], flags);
    assert_eq!(all[..10], fewer);
    // Line 3 again in its place, among others.
    let others: Vec<Value> =
        (0..10).map(|i| if i == 3 { rows[3].clone() } else { json!({ "tokens": [i] }) }).collect();
    assert_eq!(generate(&work, &golden, &others, flags)[3]["tokens"], all[3]["tokens"]);
    assert_ne!(all[0]["tokens"], all[3]["tokens"], "equal prompts on other lines differ");
    let other_seed = generate(&work, &golden, &rows, "--max-new-tokens 9 --seed 12 --ignore-eos");
    assert_ne!(all, other_seed);
}

#[test]
fn the_end_of_sequence_is_included() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_tied");
    let eos = opd_models::ModelConfig::load(&golden.dir).unwrap().eos_token_ids;
    let rows: Vec<Value> = (0..200).map(|i| json!({ "tokens": golden.sequences[i % 3] })).collect();
    let out = generate(&work, &golden, &rows, "--max-new-tokens 60 --temperature 3");
    let is_eos = |id: &Value| eos.iter().any(|eos| id == &json!(eos));
    let mut ended = 0;
    for out in &out {
        let tokens = out["tokens"].as_array().unwrap();
        let (last, before) = tokens.split_last().unwrap();
        assert!(!before.iter().any(is_eos), "{out}");
        assert_eq!(out["finish_reason"] == "eos", is_eos(last), "{out}");
        ended += usize::from(is_eos(last));
    }
    assert!(ended > 0, "none of {} sequences ended", out.len());
}

#[test]
fn the_context_ends_a_sequence() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen2_tied");
    let context = opd_models::ModelConfig::load(&golden.dir).unwrap().context;
    let prompt = vec![5; context - 4];
    let flags = "--max-new-tokens 10 --ignore-eos --greedy";
    let out = generate(&work, &golden, &[json!({ "tokens": prompt })], flags);
    assert_eq!(out[0]["tokens"].as_array().unwrap().len(), 4);
    assert_eq!(out[0]["finish_reason"], "length");
}

#[test]
fn text_comes_back_as_text() {
    let work = Workplace::new();
    let model = models::digits(&work, "model", 4);
    work.write("in.jsonl", "{\"prompt\": \"312=\", \"id\": 7}\n");
    let model = model.display();
    work.line(&format!(
        "generate --model {model} --input in.jsonl --output out.jsonl --max-new-tokens 6 --ignore-eos"
    ))
    .succeeds();
    let out = &records(&work.path("out.jsonl"))[0];
    assert_eq!((&out["id"], out["tokens"].as_array().unwrap().len()), (&json!(7), 6));
    let spelled = out["tokens"].as_array().unwrap().iter().filter_map(|id| match id.as_u64() {
        Some(id @ 2..=11) => Some(char::from(b'0' + (id - 2) as u8)),
        Some(12) => Some('='),
        _ => None,
    });
    let text: String = out["text"].as_str().unwrap().split_whitespace().collect();
    assert_eq!(text, spelled.collect::<String>());
}
