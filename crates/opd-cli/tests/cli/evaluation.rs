use opd_testkit::GoldenModel;
use serde_json::{Value, json};

use crate::{
    command::{Ran, Workplace},
    models,
};

fn eval(work: &Workplace, golden: &GoldenModel, flags: &str) -> Ran {
    let dir = golden.dir.display();
    work.line(&format!("eval --model {dir} --data data.jsonl {flags}"))
}

/// The first `n` greedy tokens are the answer on `right` of `all` lines.
fn data(work: &Workplace, golden: &GoldenModel, right: usize, all: usize) {
    let answer = &golden.greedy_from_sequence_0[..6];
    let lines = (0..all).map(|i| {
        let label = if i < right { answer.to_vec() } else { vec![1] };
        json!({ "tokens": golden.sequences[0], "label_tokens": label }).to_string() + "\n"
    });
    work.write("data.jsonl", &lines.collect::<String>());
}

#[test]
fn counts_right_answers_and_gives_wilsons_interval() {
    let work = Workplace::new();
    let golden = GoldenModel::load("llama_tied");
    data(&work, &golden, 80, 100);
    let ran = eval(&work, &golden, "--greedy --max-new-tokens 6 --json").succeeds();
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&result["n"], &result["samples"]), (&json!(100), &json!(1)));
    assert_eq!(result["pass_at_1"], 0.8);
    // statsmodels.stats.proportion.proportion_confint(80, 100, method="wilson")
    let [low, high] = [0, 1].map(|i| result["interval"][i].as_f64().unwrap());
    assert!((low - 0.711_170_83).abs() < 1e-6, "{low}");
    assert!((high - 0.866_633_1).abs() < 1e-6, "{high}");
}

#[test]
fn several_answers_to_a_prompt_do_not_count_as_independent() {
    let work = Workplace::new();
    let golden = GoldenModel::load("llama_tied");
    data(&work, &golden, 80, 100);
    let interval = |samples| {
        let flags = format!("--greedy --max-new-tokens 6 --n-samples {samples} --json");
        let result: Value =
            serde_json::from_str(&eval(&work, &golden, &flags).succeeds().stdout).unwrap();
        assert_eq!(result["pass_at_1"], 0.8);
        [0, 1].map(|i| result["interval"][i].as_f64().unwrap())
    };
    let (one, four) = (interval(1), interval(4));
    let width = |[low, high]: [f64; 2]| high - low;
    assert!(width(four) > 0.95 * width(one), "greedy answers repeat themselves: {one:?} {four:?}");
}

#[test]
fn prints_a_table() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_tied");
    data(&work, &golden, 3, 4);
    let ran = eval(&work, &golden, "--greedy --max-new-tokens 6 --max-prompts 4").succeeds();
    for line in
        ["prompts       4", "answers each  1", "sampling      greedy", "pass@1        75.00%"]
    {
        assert!(ran.stdout.contains(line), "{}", ran.stdout);
    }
    assert_eq!(ran.stderr, "");
}

#[test]
fn text_and_field_names() {
    let work = Workplace::new();
    let model = models::digits(&work, "model", 2);
    let model = model.display();
    work.write("data.jsonl", "{\"q\": \"21=\", \"a\": 12}\n{\"q\": \"31=\", \"a\": \"x\"}\n");
    let line = format!("eval --model {model} --data data.jsonl --max-new-tokens 3");
    let ran = work.line(&format!("{line} --input-key q --label-key a --json --n-samples 5"));
    let result: Value = serde_json::from_str(&ran.succeeds().stdout).unwrap();
    assert_eq!((&result["n"], &result["samples"]), (&json!(2), &json!(5)));
    work.line(&line).fails(
        1,
        &["error: data.jsonl:1: field `prompt` is missing (there are: a, q)", "--input-key"],
    );
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let work = Workplace::new();
    let model = models::digits(&work, "model", 2);
    let data = models::prompts(&work);
    let run = |flags: &str| {
        let (model, data) = (model.display(), data.display());
        let line = format!("eval --model {model} --data {data} --max-new-tokens 2 --json {flags}");
        work.line(&line).succeeds().stdout
    };
    assert_eq!(run("--seed 4"), run("--seed 4 --threads 1 --max-sequences 2"));
}

#[test]
fn faults_of_the_data_name_file_and_line() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_tied");
    for (line, expected) in [
        (r#"{"tokens": [1]}"#, "data.jsonl:1: field `label_tokens` is missing"),
        (r#"{"tokens": [], "label_tokens": [1]}"#, "data.jsonl:1: the prompt has no tokens"),
        (r#"{"tokens": [999], "label_tokens": [1]}"#, "data.jsonl:1: token id 999"),
        (
            "{\"tokens\": [1], \"label_tokens\": [1]}\n{\"label_tokens\": [1]}",
            "data.jsonl:2: field `tokens` is missing",
        ),
        (r#"{"tokens": [1.5], "label_tokens": [1]}"#, "data.jsonl:1: field `tokens` must be"),
        ("[1]", "data.jsonl:1: not a record"),
        ("", "data.jsonl: no prompts"),
    ] {
        work.write("data.jsonl", line);
        eval(&work, &golden, "").fails(1, &["error: ", expected]);
    }
}
