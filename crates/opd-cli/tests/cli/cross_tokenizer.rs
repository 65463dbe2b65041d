//! A teacher whose tokens are pairs of digits, and a student whose tokens are digits.

use std::fs;

use serde_json::Value;

use crate::command::{Workplace, records};

/// The default job with the teacher of pairs, and these flags.
#[track_caller]
fn train(work: &Workplace, flags: &str) {
    work.write("job.toml", &work.line("train --print-config").stdout);
    let pairs = "--opd-teacher-load bundled:pairs_teacher \
                 --opd-teacher-tokenizer bundled:pairs_teacher";
    work.line(&format!("train --config job.toml {pairs} {flags}")).succeeds();
}

#[test]
fn a_student_learns_from_another_tokenizer() {
    let work = Workplace::new();
    let flags = "--opd-prefix-ratio 1 --steps 100 --rollout-batch-size 16 --lr 2e-4 \
                 --eval-interval 0 --eval-prompts 1000 --eval-temperature 0 --output run --quiet";
    train(&work, flags);
    let summary = fs::read_to_string(work.path("run").join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let [before, after, teacher] =
        ["before", "after", "teacher"].map(|who| &summary["interval"][who]);
    let bound = |interval: &Value, end: usize| interval[end].as_f64().unwrap();
    assert!(bound(after, 0) > bound(before, 1), "{before} before, {after} after");
    assert!(bound(teacher, 0) > 0.9, "the teacher is asked in its own tokens: {teacher}");
    let last = &records(&work.path("run").join("metrics.jsonl"))[99];
    let number = |key: &str| last[key].as_f64().unwrap();
    assert!(number("teacher/unaligned") < 0.05, "{last}");
    let weight = number("teacher/prefix_weight");
    assert!(weight > 0.5 && weight < 1.0, "{last}");
}

#[test]
fn tokens_without_counterpart_are_counted_for_distributions_too() {
    let work = Workplace::new();
    for loss in ["uld", "gold"] {
        let flags = "--steps 1 --rollout-batch-size 4 --n-samples-per-prompt 2 --eval-interval 0 \
                     --eval-prompts 2 --eval-teacher=false --quiet";
        train(&work, &format!("--loss {loss} {flags} --output {loss}"));
        let line = &records(&work.path(loss).join("metrics.jsonl"))[0];
        assert!(line["teacher/unaligned"].as_f64().is_some_and(|share| share < 0.5), "{line}");
    }
}
