//! A mixture of experts teaches: `opd train` takes its scores and its distributions.

use opd_testkit::{GoldenModel, ModelDir};
use serde_json::{Value, json};

use crate::command::{Workplace, records};

/// A golden model with a word for each of its ids.
fn model(name: &str) -> ModelDir {
    let dir = ModelDir::copy(&GoldenModel::load(name).dir);
    let words: Vec<String> = (0..112).map(|id| format!("w{id}")).collect();
    dir.write_tokenizer(&words.iter().map(String::as_str).collect::<Vec<_>>());
    dir
}

#[test]
fn a_mixture_of_experts_is_a_teacher() {
    let work = Workplace::new();
    let (student, teacher) = (model("qwen3_yarn"), model("qwen3_moe"));
    work.write("prompts.jsonl", "{\"prompt\": \"w7 w8 w9\"}\n{\"prompt\": \"w17\"}\n");
    let (student, teacher) = (student.path().display(), teacher.path().display());
    let job = format!(
        "train --hf-checkpoint {student} --prompt-data prompts.jsonl --use-opd --opd-type in-process \
         --opd-teacher-load {teacher} --rollout-batch-size 2 --n-samples-per-prompt 2 \
         --rollout-max-response-len 5 --steps 2 --lr 1e-3 --quiet"
    );
    work.line(&format!("{job} --output sampled --dump-rollouts")).succeeds();
    let rows = records(&work.path("sampled").join("rollouts/step-1.jsonl"));
    assert_eq!(rows.len(), 4);
    // Its scores are those of `opd score`.
    let asked = rows.iter().map(|row| {
        let (prompt, response) = (ids(&row["prompt_ids"]), ids(&row["response_ids"]));
        let n = prompt.len();
        let tokens = [prompt, response].concat();
        json!({ "tokens": tokens, "prompt_len": n }).to_string() + "\n"
    });
    work.write("in.jsonl", &asked.collect::<String>());
    work.line(&format!("score --quiet --model {teacher} --input in.jsonl --output out.jsonl"))
        .succeeds();
    for (row, score) in rows.iter().zip(records(&work.path("out.jsonl"))) {
        let (got, want) = (numbers(&row["teacher_logprobs"]), numbers(&score["log_probs"]));
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {want:?}");
    }
    work.line(&format!("{job} --output whole --loss reverse_kl")).succeeds();
    for line in records(&work.path("whole").join("metrics.jsonl")) {
        assert!(line["divergence"].as_f64().unwrap() > 0.0, "{line}");
    }
}

fn ids(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}
