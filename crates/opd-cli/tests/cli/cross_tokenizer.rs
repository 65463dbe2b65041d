//! A teacher whose tokens are pairs of digits, and a student whose tokens are digits.

use std::fs;

use serde_json::Value;

use crate::{
    command::{Workplace, records},
    remote_teacher::{JOB, assert_same, metrics},
    serving::Served,
};

const PAIRS: &str = "--opd-teacher-load bundled:pairs_teacher \
                     --opd-teacher-tokenizer bundled:pairs_teacher";

/// The default job with these flags.
#[track_caller]
fn train(work: &Workplace, flags: &str) {
    work.write("job.toml", &work.line("train --print-config").stdout);
    work.line(&format!("train --config job.toml {flags}")).succeeds();
}

/// Both teachers are right 99.8% of the time: the student gains from the one with another
/// tokenizer at least half of what it gains from the one with its own.
#[test]
fn a_student_learns_from_another_tokenizer() {
    let work = Workplace::new();
    let flags = "--steps 100 --rollout-batch-size 16 --lr 2e-4 --eval-interval 0 \
                 --eval-prompts 1000 --eval-temperature 0 --quiet";
    train(&work, &format!("{flags} --output same"));
    train(&work, &format!("{flags} {PAIRS} --opd-prefix-ratio 1 --output pairs"));
    let summary = |run: &str| -> Value {
        let summary = fs::read_to_string(work.path(run).join("summary.json")).unwrap();
        serde_json::from_str(&summary).unwrap()
    };
    let (same, pairs) = (summary("same"), summary("pairs"));
    let gain = |summary: &Value| {
        let [before, after] =
            ["before", "after"].map(|who| summary["pass_at_1"][who].as_f64().unwrap());
        after - before
    };
    for summary in [&same, &pairs] {
        let [before, after, teacher] =
            ["before", "after", "teacher"].map(|who| &summary["interval"][who]);
        let bound = |interval: &Value, end: usize| interval[end].as_f64().unwrap();
        assert!(bound(after, 0) > bound(before, 1), "{before} before, {after} after");
        assert!(bound(teacher, 0) > 0.9, "a teacher is asked in its own tokens: {teacher}");
    }
    assert_eq!(same["pass_at_1"]["before"], pairs["pass_at_1"]["before"]);
    assert!(gain(&pairs) >= 0.5 * gain(&same), "{} of {}", gain(&pairs), gain(&same));
    let last = &records(&work.path("pairs").join("metrics.jsonl"))[99];
    let number = |key: &str| last[key].as_f64().unwrap();
    assert!(number("teacher/unaligned") < 0.05, "{last}");
    let weight = number("teacher/prefix_weight");
    assert!(weight > 0.5 && weight < 1.0, "{last}");
}

#[test]
fn a_teacher_with_another_tokenizer_behind_http_teaches_what_it_teaches_in_process() {
    let work = Workplace::new();
    let layout = opd_pocket::materialize(&work.path("bundled")).unwrap();
    let served = Served::of(&work, &layout.pairs_teacher, &[]);
    let job = format!("{JOB} --opd-prefix-ratio 1");
    work.line(&format!("{job} --opd-type in-process {PAIRS} --output own")).succeeds();
    let tokenizer = "--opd-teacher-tokenizer bundled:pairs_teacher";
    for form in ["sglang", "vllm"] {
        let remote = format!("--opd-type {form} --rm-url {} {tokenizer}", served.url());
        work.line(&format!("{job} {remote} --output {form}")).succeeds();
        assert_same(&metrics(&work.path("own")), &metrics(&work.path(form)), 3);
    }
    // The spans of its tokens are not the student's tokens.
    let first = &records(&work.path("own").join("metrics.jsonl"))[0];
    assert!(first["teacher/unaligned"].is_number(), "{first}");
    served.terminate();
}

#[test]
fn tokens_without_counterpart_are_counted_for_distributions_too() {
    let work = Workplace::new();
    for loss in ["uld", "gold"] {
        let flags = "--steps 1 --rollout-batch-size 4 --n-samples-per-prompt 2 --eval-interval 0 \
                     --eval-prompts 2 --eval-teacher=false --quiet";
        train(&work, &format!("{PAIRS} --loss {loss} {flags} --output {loss}"));
        let line = &records(&work.path(loss).join("metrics.jsonl"))[0];
        assert!(line["teacher/unaligned"].as_f64().is_some_and(|share| share < 0.5), "{line}");
    }
}
