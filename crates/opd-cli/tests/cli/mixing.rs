//! Who writes responses, and what is mixed into the loss.

use std::{fs, path::Path};

use serde_json::Value;

use crate::command::{Workplace, records};

const JOB: &str = "train --hf-checkpoint bundled:student --prompt-data bundled:train.jsonl \
    --eval-prompt-data bundled:test.jsonl --eval-prompts 4 --rollout-batch-size 6 \
    --rollout-max-response-len 10 --lr 1e-3 --eval-interval 0 --seed 5 \
    --quiet";

const TEACHER: &str = "--use-opd --opd-type in-process --opd-teacher-load bundled:teacher";

/// Lines of `metrics.jsonl` of a run of three steps.
#[track_caller]
fn run(work: &Workplace, name: &str, flags: &str) -> Vec<Value> {
    let samples = if flags.contains("n-samples") { "" } else { "--n-samples-per-prompt 2" };
    work.line(&format!("{JOB} {TEACHER} --steps 3 --output {name} {samples} {flags}")).succeeds();
    let lines = records(&work.path(name).join("metrics.jsonl"));
    assert_eq!(lines.len(), 3, "{flags}");
    for line in &lines {
        for (key, value) in line.as_object().unwrap() {
            assert!(value.as_f64().is_some_and(f64::is_finite), "{flags}: {key} is {value}");
        }
        assert!(line["grad_norm"].as_f64().unwrap() > 0.0, "{flags}: {line}");
    }
    lines
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn the_teacher_writes() {
    let work = Workplace::new();
    let sampled = run(&work, "sampled", "--loss sft --responses teacher");
    let greedy = "--loss sft --responses teacher --teacher-temperature 0 --n-samples-per-prompt 1";
    let greedy = run(&work, "greedy", greedy);
    for line in sampled.iter().chain(&greedy) {
        // Six times eight digits, and the ends.
        let per_prompt = number(line, "response_length/mean");
        assert!(per_prompt > 8.5, "{line}");
        assert!(number(line, "generated_tokens") >= 6.0 * 8.0, "{line}");
        assert!(line.get("ratio/mean").is_none() && line.get("reverse_kl").is_none(), "{line}");
    }
    // The likeliest responses are likelier than others.
    let hot = run(&work, "hot", "--loss sft --responses teacher --teacher-temperature 3");
    assert!(number(&hot[0], "cross_entropy") > 2.0 * number(&greedy[0], "cross_entropy"));
    let weighted = "--responses teacher --sampler-correction truncate";
    let lines = run(&work, "weighted", weighted);
    assert!(number(&lines[0], "correction_weight") < 1.5, "{}", lines[0]);
    let cross = "--loss forward_kl --responses teacher";
    assert!(number(&run(&work, "forward", cross)[0], "divergence") > 0.0);
}

#[test]
fn authors_are_mixed_and_counted() {
    let work = Workplace::new();
    let shares = |line: &Value| {
        ["student", "label", "teacher"].map(|name| number(line, &format!("responses/{name}")))
    };
    let mixed = "--loss jsd --responses mixed --mix-teacher 0.25";
    let flags = format!("{mixed} --mix-student 0.5 --mix-label 0.25");
    let by_prompt = run(&work, "prompt", &flags);
    for line in &by_prompt {
        assert!((shares(line).iter().sum::<f64>() - 1.0).abs() < 1e-12, "{line}");
    }
    assert!(by_prompt.iter().any(|line| shares(line).iter().all(|share| *share < 1.0)));
    for line in run(&work, "batch", &format!("{flags} --mix-by batch")) {
        assert!(shares(&line).contains(&1.0), "{line}");
    }
    let pure = format!("{mixed} --mix-student 0 --mix-label 0");
    let [mixed, teacher] =
        [run(&work, "pure", &pure), run(&work, "teacher", "--loss jsd --responses teacher")];
    for (mixed, teacher) in mixed.iter().zip(&teacher) {
        assert_eq!(shares(mixed), [0.0, 0.0, 1.0]);
        assert_eq!(
            (&mixed["loss"], &mixed["grad_norm"]),
            (&teacher["loss"], &teacher["grad_norm"])
        );
    }
}

#[test]
fn supervision_is_added_to_any_loss() {
    let work = Workplace::new();
    let plain = run(&work, "plain", "");
    let mixed = run(&work, "mixed", "--sft-coef 0.5 --sft-batch-size 5");
    let difference = number(&mixed[0], "loss") - number(&plain[0], "loss");
    let added = 0.5 * number(&mixed[0], "sft/cross_entropy");
    assert!(added > 0.01 && (difference - added).abs() < 1e-5, "{difference}, expected {added}");
    let labels = "{\"prompt\": \"31200000=\", \"label\": \"00000123\"}\n";
    work.write("labels.jsonl", labels);
    let flags = "--loss reverse_kl --sft-coef 0.5 --sft-data labels.jsonl --updates-per-batch 3";
    assert!(number(&run(&work, "data", flags)[0], "sft/cross_entropy") > 0.0);
    work.line(&format!("{JOB} {TEACHER} --steps 1 --sft-data labels.jsonl"))
        .fails(2, &["sft.data is named and sft.coef is 0", "--sft-coef"]);
}

#[test]
fn mini_llm_and_its_mixture() {
    let work = Workplace::new();
    let own = run(&work, "own", "--loss mini_llm");
    assert!((number(&own[0], "importance_weight") - 1.0).abs() < 1e-5);
    let mixed = run(&work, "mixed", "--loss mini_llm --teacher-mixed-alpha 0.2 --sft-coef 0.1");
    let weight = number(&mixed[0], "importance_weight");
    assert!((0.5..1.25).contains(&weight) && (weight - 1.0).abs() > 1e-4, "{weight}");
    assert!(number(&mixed[0], "divergence") > 0.0);
    let rewards = "--loss mini_llm --advantage-estimator rloo --length-normalised=false \
                   --updates-per-batch 2";
    run(&work, "rewards", rewards);
    run(&work, "policy", "--teacher-mixed-alpha 0.2 --sampler-correction truncate");
}

/// Fifty steps of 64 responses: the student after them is better than chance can make it.
#[test]
fn the_student_really_improves() {
    let work = Workplace::new();
    let job = JOB
        .replace("--rollout-batch-size 6", "--rollout-batch-size 64")
        .replace("--eval-prompts 4", "--eval-prompts 400")
        .replace("--lr 1e-3", "--lr 3e-4 --lr-warmup 5 --n-samples-per-prompt 1");
    for (name, flags) in [
        ("seq-kd", "--loss sft --responses teacher"),
        ("gkd", "--loss jsd --responses mixed --mix-label 0.25 --mix-teacher 0.25"),
        ("mini-llm", "--loss mini_llm --teacher-mixed-alpha 0.2"),
    ] {
        work.line(&format!("{job} {TEACHER} --steps 50 --output {name} {flags}")).succeeds();
        let summary = fs::read_to_string(work.path(name).join("summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        let interval = |who: &str, end: usize| summary["interval"][who][end].as_f64().unwrap();
        let (before, after) = (interval("before", 1), interval("after", 0));
        assert!(after > before, "{name}: at least {after} after, and at most {before} before");
    }
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("model/model.safetensors")).unwrap()
}

/// A run whose last checkpoint and results are lost goes on from the one before.
#[track_caller]
pub(crate) fn resumes_exactly(flags: &str) {
    let work = Workplace::new();
    work.line(&format!("{JOB} --steps 4 --save-interval 2 --output run {flags}")).succeeds();
    let whole = work.path("run");
    let (metrics, model) = (records(&whole.join("metrics.jsonl")), weights(&whole));
    for lost in ["checkpoints/step-4", "model"] {
        fs::remove_dir_all(whole.join(lost)).unwrap();
    }
    fs::remove_file(whole.join("summary.json")).unwrap();
    work.line("train --resume run --quiet").succeeds();
    let timeless = |lines: Vec<Value>| -> Vec<Value> {
        let mut lines = lines;
        for line in &mut lines {
            line.as_object_mut().unwrap().retain(|key, _| !key.starts_with("seconds/"));
        }
        lines
    };
    assert_eq!(timeless(records(&whole.join("metrics.jsonl"))), timeless(metrics), "{flags}");
    assert!(weights(&whole) == model, "{flags}: the weights differ");
}

#[test]
fn resumption_draws_the_same_authors_and_labels() {
    let mixed = "--loss jsd --responses mixed --mix-teacher 0.5 --sft-coef 0.2";
    resumes_exactly(&format!("{TEACHER} {mixed}"));
    resumes_exactly(&format!("{TEACHER} --loss mini_llm --teacher-mixed-alpha 0.3"));
}

#[test]
fn a_teacher_that_cannot_write_is_refused() {
    let work = Workplace::new();
    let server = "--use-opd --opd-type sglang --rm-url http://127.0.0.1:1";
    let refused = |flags: &str, said: &[&str]| {
        work.line(&format!("{JOB} --steps 1 {flags}")).fails(2, said);
    };
    let scores = "a server or a journal only scores them";
    refused(
        &format!("{server} --loss sft --responses teacher"),
        &["the teacher is to write responses (rollout.responses)", scores, "--opd-type in-process"],
    );
    let mixed = "--responses mixed --mix-teacher 0.1 --loss sft --mix-student 0";
    refused(&format!("{server} {mixed}"), &["the teacher is to write responses", scores]);
    let alpha = "--teacher-mixed-alpha 0.2 --sampler-correction truncate";
    refused(&format!("{server} {alpha}"), &["have a share in every token", scores]);
    refused("--loss sft --responses teacher", &["and there is none"]);
    let cut = format!("{TEACHER} {alpha} --rollout-top-k 5");
    refused(&cut, &["rollout.teacher_mixed_alpha with rollout.top_k", "drop"]);
    refused(&format!("{TEACHER} --teacher-mixed-alpha 1"), &["at least 0 and under 1, got 1"]);
    let none = "--responses mixed --mix-student 0 --mix-label 0 --loss jsd";
    refused(&format!("{TEACHER} {none}"), &["rollout.mix must be a share above 0"]);
    refused(&format!("{TEACHER} --mix-label -1"), &["rollout.mix.label", "got -1"]);
    refused(&format!("{TEACHER} --sft-coef -1"), &["sft.coef", "got -1", "--sft-coef"]);
    refused(&format!("{TEACHER} --sft-batch-size 0"), &["sft.prompts must be at least 1"]);
}

#[test]
fn a_stop_string_ends_answers_and_is_not_judged() {
    let work = Workplace::new();
    let dumped = |name: &str, flags: &str| {
        run(&work, name, &format!("--dump-rollouts {flags}"));
        records(&work.path(name).join("rollouts/step-1.jsonl"))
    };
    let (free, cut) = (dumped("free", ""), dumped("cut", "--rollout-stop 9 77"));
    let by_id = dumped("by_id", "--rollout-stop-token-ids 5");
    let text = |row: &Value| row["response"].as_str().unwrap().to_owned();
    // Right where the 9 is read, and not where it only ends the answer.
    assert!(free.iter().any(|row| text(row).ends_with('9') && row["reward"] == 1.0));
    assert_eq!(free.len(), cut.len());
    for (free, cut) in free.iter().zip(&cut) {
        let (free, cut_text) = (text(free), text(cut));
        let end = ["9", "77"].iter().filter_map(|stop| free.find(stop).map(|at| at + stop.len()));
        match end.min() {
            Some(end) => {
                assert_eq!(
                    (cut_text.as_str(), cut["finish"].as_str()),
                    (&free[..end], Some("stop"))
                );
                assert_eq!(cut["reward"], 0.0, "{cut}");
            }
            None => assert_eq!(cut_text, free),
        }
    }
    for (free, row) in free.iter().zip(&by_id) {
        let ids = |row: &Value| row["response_ids"].as_array().cloned().unwrap_or_default();
        let free = ids(free);
        let n = free.iter().position(|id| id == 5).map_or(free.len(), |at| at + 1);
        assert_eq!(ids(row), free[..n]);
    }
}

#[test]
fn a_repetition_penalty_changes_what_is_sampled_and_not_its_log_probs() {
    let work = Workplace::new();
    let responses = |name: &str, flags: &str| {
        let lines = run(&work, name, &format!("--dump-rollouts {flags}"));
        // The sampler's log-probs are those of the whole softmax without the penalty.
        assert!(number(&lines[0], "sampler_error/max") < 1e-5, "{}", lines[0]);
        assert!(number(&lines[0], "sampler_error/mean") <= number(&lines[0], "sampler_error/max"));
        let rows = records(&work.path(name).join("rollouts/step-1.jsonl"));
        rows.into_iter().map(|row| row["response"].clone()).collect::<Vec<_>>()
    };
    let free = responses("free", "");
    assert_eq!(responses("none", "--rollout-repetition-penalty 1"), free);
    assert_ne!(responses("penalised", "--rollout-repetition-penalty 1.5"), free);
}
