//! Teachers that are made of the student, and teachers that are told more.

use std::fs;

use candle_core::{DType, Device};
use opd_models::CausalLm;
use serde_json::Value;

use crate::{
    command::{Workplace, records},
    mixing::resumes_exactly,
};

const JOB: &str = "train --hf-checkpoint bundled:student --prompt-data bundled:train.jsonl \
    --eval-prompt-data bundled:test.jsonl --eval-prompts 4 --rollout-batch-size 6 \
    --n-samples-per-prompt 2 --rollout-max-response-len 10 --lr 1e-3 --eval-interval 0 --seed 5 \
    --quiet --use-opd";

const HINT: &str = "--opd-teacher-prompt-template {label}{prompt}";

/// Lines of `metrics.jsonl`, without times.
#[track_caller]
fn run(work: &Workplace, name: &str, flags: &str) -> Vec<Value> {
    work.line(&format!("{JOB} --output {name} {flags}")).succeeds();
    let mut lines = records(&work.path(name).join("metrics.jsonl"));
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.retain(|key, _| !key.starts_with("seconds/"));
        assert!(line.values().all(|value| value.as_f64().is_some_and(f64::is_finite)), "{line:?}");
    }
    lines
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn a_teacher_that_is_told_the_prompt_is_told_nothing() {
    let work = Workplace::new();
    let teacher = "--steps 2 --opd-type in-process --opd-teacher-load bundled:teacher";
    for loss in ["importance_sampling", "jsd", "mini_llm"] {
        let flags = format!("{teacher} --loss {loss}");
        let of = |name: &str, more: &str| {
            run(&work, &format!("{loss}-{name}"), &format!("{flags} {more}"))
        };
        let plain = of("plain", "");
        assert_eq!(of("same", "--opd-teacher-prompt-template {prompt}"), plain);
        assert_ne!(of("hint", HINT)[0]["loss"], plain[0]["loss"], "{loss}");
    }
}

#[test]
fn a_hint_in_a_field_is_a_hint_in_a_template() {
    let work = Workplace::new();
    let bundle = opd_pocket::materialize(&work.path("bundle")).unwrap();
    let text = fs::read_to_string(bundle.train).unwrap();
    let hinted = text.lines().take(50).map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let [prompt, label] = ["prompt", "label"].map(|key| line[key].as_str().unwrap().to_owned());
        line["hinted"] = format!("{label}{prompt}").into();
        line.to_string() + "\n"
    });
    work.write("hinted.jsonl", &hinted.collect::<String>());
    let flags = "--steps 2 --opd-type start --prompt-data hinted.jsonl";
    let of = |name: &str, more: &str| {
        let job = JOB.replace("--prompt-data bundled:train.jsonl", "");
        work.line(&format!("{job} --output {name} {flags} {more}")).succeeds();
        let lines = records(&work.path(name).join("metrics.jsonl"));
        lines.iter().map(|line| number(line, "reverse_kl")).collect::<Vec<_>>()
    };
    let field = of("field", "--opd-teacher-prompt-key hinted");
    assert_eq!(field, of("template", HINT));
    assert!(field[0] > 1e-3, "the hint changes what the teacher says: {field:?}");
    work.line(&format!("{JOB} --steps 1 --opd-type start --opd-teacher-prompt-key hinted"))
        .fails(1, &["has nothing to tell the teacher", "distillation.prompt_key"]);
}

/// The student comes to say, without the hint, what its start says with it.
#[test]
fn the_student_learns_what_its_own_start_says_with_a_hint() {
    let work = Workplace::new();
    let job = JOB
        .replace("--rollout-batch-size 6 --n-samples-per-prompt 2", "--rollout-batch-size 32")
        .replace("--lr 1e-3", "--lr 3e-4 --lr-warmup 5 --n-samples-per-prompt 1");
    let flags = format!("--steps 40 --opd-type start --loss reverse_kl {HINT} --output run");
    work.line(&format!("{job} {flags}")).succeeds();
    let lines = records(&work.path("run/metrics.jsonl"));
    let mean = |lines: &[Value]| {
        lines.iter().map(|line| number(line, "divergence")).sum::<f64>() / lines.len() as f64
    };
    let (first, last) = (mean(&lines[..5]), mean(&lines[32..]));
    assert!(last < 0.6 * first, "{first} at first, {last} at last");
}

#[test]
fn an_average_follows_the_student() {
    let work = Workplace::new();
    let flags = "--opd-type ema --opd-ema-decay 0.75 --steps 3 --save-interval 1 --keep-last 4";
    run(&work, "run", &format!("{flags} {HINT}"));
    let weights = |dir: &str| -> Vec<f64> {
        let model = CausalLm::load(work.path(dir), DType::F32, &Device::Cpu).unwrap();
        let values = model.parameters().iter().flat_map(|p| opd_testkit::host(&p.tensor()));
        values.collect()
    };
    let mut average = weights("run/inputs/student");
    let start = average.clone();
    for step in 1..=3 {
        let student = weights(&format!("run/checkpoints/step-{step}"));
        for (average, student) in average.iter_mut().zip(student) {
            *average = 0.75 * *average + 0.25 * student;
        }
        let teacher = weights(&format!("run/checkpoints/step-{step}/teacher"));
        let off = teacher.iter().zip(&average).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let moved = teacher.iter().zip(&start).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-6 && moved > 1e-4, "step {step}: off by {off}, moved by {moved}");
    }
}

#[test]
fn an_average_resumes_exactly() {
    let ema = "--use-opd --opd-type ema --opd-ema-decay 0.5";
    resumes_exactly(&format!("{ema} {HINT}"));
    resumes_exactly(&format!("{ema} {HINT} --loss forward_kl --responses teacher"));
    resumes_exactly(&format!("{ema} --advantage-estimator rloo"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let work = Workplace::new();
    let refused = |flags: &str, said: &[&str]| {
        work.line(&format!("{JOB} --steps 1 {flags}")).fails(2, said);
    };
    let named = "--opd-teacher-load bundled:teacher";
    refused(
        &format!("--opd-type ema {HINT} {named}"),
        &["--opd-teacher-load goes with --opd-type in-process, not with ema"],
    );
    refused(
        &format!("--opd-type start {HINT} --rm-url http://h"),
        &["--rm-url goes with", "not with start"],
    );
    refused(&format!("--opd-type ema {HINT} --opd-journal j"), &["changes at every step"]);
    refused(&format!("--opd-type ema {HINT} --opd-ema-decay 1.5"), &["from 0 to 1, got 1.5"]);
    refused(&format!("--opd-type ema {HINT} --opd-ema-decay 1"), &["--opd-type start"]);
    refused("--opd-type ema", &["the two agree", "--opd-teacher-prompt-key"]);
    refused("--opd-type start --loss jsd", &["the two agree"]);
    refused(
        "--opd-type ema --opd-teacher-prompt-template {label}",
        &["must be a text that holds {prompt}"],
    );
    let both = format!("--opd-type ema {HINT} --opd-teacher-prompt-key x");
    refused(&both, &["both say what the teacher sees"]);
    let mixed = "--teacher-mixed-alpha 0.2 --loss mini_llm";
    refused(&format!("--opd-type start {HINT} {mixed}"), &["after one prompt", "drop"]);
}
