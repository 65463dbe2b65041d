//! Runs that train adapters.

use std::fs;

use candle_core::{DType, Device};
use opd_models::{CausalLm, LoraTarget};
use opd_testkit::host;
use serde_json::Value;

use crate::{
    command::{Workplace, records},
    mixing::resumes_exactly,
};

const JOB: &str = "train --hf-checkpoint bundled:student --prompt-data bundled:train.jsonl \
    --eval-prompt-data bundled:test.jsonl --eval-prompts 4 --rollout-batch-size 6 \
    --n-samples-per-prompt 2 --rollout-max-response-len 10 --lr 1e-3 --eval-interval 0 --seed 5 \
    --quiet";

const TEACHER: &str = "--use-opd --opd-type in-process --opd-teacher-load bundled:teacher";

const HINT: &str = "--opd-teacher-prompt-template {label}{prompt}";

const LORA: &str = "--lora-rank 4 --lora-alpha 8";

/// Lines of `metrics.jsonl`, without times.
#[track_caller]
fn run(work: &Workplace, name: &str, flags: &str) -> Vec<Value> {
    work.line(&format!("{JOB} --output {name} {flags}")).succeeds();
    let mut lines = records(&work.path(name).join("metrics.jsonl"));
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|key, _| !key.starts_with("seconds/"));
    }
    lines
}

fn load(work: &Workplace, dir: &str) -> CausalLm {
    CausalLm::load(work.path(dir), DType::F32, &Device::Cpu).unwrap()
}

fn weights(model: &CausalLm) -> Vec<f64> {
    model.parameters().iter().flat_map(|p| host(&p.tensor())).collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_run_leaves_adapters_and_the_model_with_them() {
    let work = Workplace::new();
    let flags = "--lora-target-modules q_proj,down_proj --steps 3 --save-interval 1 --keep-last 4";
    run(&work, "run", &format!("{TEACHER} {LORA} --lora-rslora {flags}"));
    for step in 1..=3 {
        let dir = work.path(&format!("run/checkpoints/step-{step}"));
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "adapter_config.json",
            "adapter_model.safetensors",
            "manifest.json",
            "optimizer.safetensors",
            "trainer_state.json",
        ];
        assert_eq!(names, expected, "adapters alone");
    }
    let base = load(&work, "run/inputs/student");
    let start = weights(&base);
    let adapted = base.with_adapter(work.path("run/adapter")).unwrap();
    let config = adapted.lora().unwrap();
    assert_eq!((config.rank, config.scale()), (4, 4.0));
    assert_eq!(config.targets, [LoraTarget::QProj, LoraTarget::DownProj]);
    let merged = weights(&load(&work, "run/model"));
    assert!(largest_difference(&merged, &start) > 1e-4, "something was learnt");
    let again = tempfile::tempdir().unwrap();
    adapted.save(again.path().join("merged")).unwrap();
    let again = CausalLm::load(again.path().join("merged"), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(weights(&again), merged);
}

#[test]
fn adapters_resume_exactly() {
    resumes_exactly(&format!("{TEACHER} {LORA}"));
    let ema = "--use-opd --opd-type ema --opd-ema-decay 0.5 --kl-loss-coef 0.1";
    resumes_exactly(&format!("{ema} {HINT} {LORA} --advantage-estimator rloo"));
}

#[test]
fn the_model_below_the_adapters_is_the_start_policy() {
    let work = Workplace::new();
    let flags = format!("{LORA} --steps 3 {HINT} --use-opd");
    let shared = run(&work, "shared", &format!("{flags} --opd-type start"));
    let loaded = "--opd-type in-process --opd-teacher-load bundled:student";
    assert_eq!(shared, run(&work, "loaded", &format!("{flags} {loaded}")));
    let flags = format!("{TEACHER} {LORA} --steps 3 --kl-loss-coef 0.2");
    let shared = run(&work, "shared-kl", &flags);
    let kl = shared[2]["kl_reference"].as_f64().unwrap();
    assert!(kl.abs() > 1e-6, "the student has moved away from its start");
    assert_eq!(shared, run(&work, "loaded-kl", &format!("{flags} --ref-load bundled:student")));
}

#[test]
fn a_run_starts_from_adapters() {
    let work = Workplace::new();
    run(&work, "first", &format!("{TEACHER} {LORA} --steps 3"));
    let flags = format!("--steps 1 --use-opd --opd-type start {HINT} --kl-loss-coef 0.1");
    let on = run(&work, "on", &format!("{flags} --lora-adapter first/adapter"));
    let whole = format!("{flags} --hf-checkpoint first/model");
    let job = JOB.replace("--hf-checkpoint bundled:student", "");
    work.line(&format!("{job} --output whole {whole}")).succeeds();
    let whole = records(&work.path("whole/metrics.jsonl"));
    for key in ["loss", "reverse_kl", "entropy"] {
        let [on, whole] = [&on[0], &whole[0]].map(|line| line[key].as_f64().unwrap());
        assert!((on - whole).abs() < 1e-4, "{key}: {on}, {whole}");
    }
    assert!(on[0]["reverse_kl"].as_f64().unwrap() > 1e-3, "the hint tells the teacher more");
}

#[test]
fn an_average_is_of_the_adapters() {
    let work = Workplace::new();
    let flags = "--use-opd --opd-type ema --opd-ema-decay 0.75 --save-interval 1 --keep-last 4";
    run(&work, "run", &format!("{flags} {HINT} {LORA} --steps 3"));
    let factors = |dir: &str| {
        let base = load(&work, "run/inputs/student");
        weights(&base.with_adapter(work.path(dir)).unwrap())
    };
    let mut average: Option<Vec<f64>> = None;
    for step in 1..=3 {
        let student = factors(&format!("run/checkpoints/step-{step}"));
        let teacher = factors(&format!("run/checkpoints/step-{step}/teacher"));
        if let Some(average) = &mut average {
            for (average, student) in average.iter_mut().zip(&student) {
                *average = 0.75 * *average + 0.25 * student;
            }
            assert!(largest_difference(average, &teacher) < 1e-6, "step {step}");
        }
        assert!(largest_difference(&student, &teacher) > 1e-5);
        average = Some(teacher);
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let work = Workplace::new();
    let refused = |flags: &str, said: &[&str]| {
        work.line(&format!("{JOB} --steps 1 {TEACHER} {flags}")).fails(2, said);
    };
    refused("--lora-alpha 8", &["student.lora.rank is not set", "--lora-rank"]);
    refused("--lora-rank 0", &["student.lora.rank must be at least 1, got 0"]);
    refused(
        "--lora-rank 4 --lora-target-modules q_proj,lm_head",
        &["target module `lm_head` is unknown", "q_proj", "all-linear"],
    );
    refused("--lora-adapter nowhere", &["nowhere holds no adapter_config.json"]);
    run(&work, "run", &format!("{TEACHER} {LORA} --steps 1"));
    refused("--lora-rank 4 --lora-adapter run/adapter", &["adapter_config.json says them"]);
    let on_adapter = JOB.replace("bundled:student", "run/checkpoints/step-1");
    work.line(&format!("{on_adapter} --steps 1 {TEACHER}"))
        .fails(2, &["holds adapters, and no model", "--lora-adapter"]);
    let said = work.line(&format!(
        "{} {TEACHER} {LORA} --steps 1 --lr 1e-6",
        JOB.replace("train", "lint").replace("--lr 1e-3", "")
    ));
    assert!(said.stdout.contains("[lora-learning-rate] lr 1e-6 with adapters"), "{said:?}");
}

#[test]
fn weight_files_have_a_limit() {
    let work = Workplace::new();
    run(&work, "run", &format!("{TEACHER} --steps 2 --save-interval 1 --max-shard-bytes 100000"));
    for dir in ["run/model", "run/checkpoints/step-2"] {
        let dir = work.path(dir);
        assert!(dir.join("model.safetensors.index.json").exists(), "{dir:?}");
        assert!(!dir.join("model.safetensors").exists());
    }
    let [model, saved] = ["run/model", "run/checkpoints/step-2"].map(|d| weights(&load(&work, d)));
    assert_eq!(model, saved);
    fs::remove_dir_all(work.path("run/checkpoints/step-2")).unwrap();
    fs::remove_dir_all(work.path("run/model")).unwrap();
    fs::remove_file(work.path("run/summary.json")).unwrap();
    work.line("train --resume run --quiet").succeeds();
    assert_eq!(weights(&load(&work, "run/model")), model, "read again from several files");
}
