use std::fs;

use serde_json::Value;

use crate::{
    command::{Ran, Workplace, records},
    models,
};

/// A line that trains a tiny student for a moment.
pub(crate) fn line(work: &Workplace, flags: &str) -> String {
    let student = models::digits(work, "student", 1);
    let teacher = models::digits(work, "teacher", 2);
    let prompts = models::prompts(work);
    let (student, teacher, prompts) = (student.display(), teacher.display(), prompts.display());
    format!(
        "train --hf-checkpoint {student} --prompt-data {prompts} --eval-prompt-data {prompts} \
         --use-opd --opd-type in-process --opd-teacher-load {teacher} --rollout-batch-size 2 \
         --n-samples-per-prompt 2 --rollout-max-response-len 3 --lr 1e-3 {flags}"
    )
}

fn train(work: &Workplace, flags: &str) -> Ran {
    work.line(&line(work, flags))
}

fn summary(work: &Workplace, run: &str) -> Value {
    let text = fs::read_to_string(work.path(run).join("summary.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_run_leaves_table_model_and_report() {
    let work = Workplace::new();
    let ran = train(&work, "--steps 12 --seed 5 --save-interval 4").succeeds();
    for row in ["student before", "student after", "teacher", "on 12 held-out prompts"] {
        assert!(ran.stdout.contains(row), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("run directory   runs/student-1"), "{}", ran.stdout);
    for line in ["run directory: runs/student-1", "step  1/12  ", "step 10/12  ", "step 12/12  "] {
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }
    for figure in ["reverse KL ", "entropy ", "length ", "lr 1.0e-3", "tokens/s"] {
        assert!(ran.stderr.contains(figure), "{}", ran.stderr);
    }
    let summary = summary(&work, "runs/student-1");
    assert_eq!((&summary["steps"], &summary["seed"]), (&12.into(), &5.into()));
    let run = work.path("runs/student-1");
    for entry in ["config.toml", "report.html", "model/config.json", "checkpoints/step-12"] {
        assert!(run.join(entry).exists(), "{entry}");
    }
    assert_eq!(records(&run.join("metrics.jsonl")).iter().filter(|m| m["step"] != 0).count(), 12);

    let model = run.join("model");
    let data = models::prompts(&work);
    let (model, data) = (model.display(), data.display());
    work.line(&format!("eval --model {model} --data {data} --max-new-tokens 3")).succeeds();
}

#[test]
fn runs_are_numbered_and_named() {
    let work = Workplace::new();
    for expected in ["runs/tiny-1", "runs/tiny-2"] {
        let ran = train(&work, "--steps 1 --name tiny --quiet").succeeds();
        assert!(ran.stdout.contains(expected), "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let work = Workplace::new();
    train(&work, "--steps 1 --output run").succeeds();
    let refused = train(&work, "--steps 1 --output run");
    refused.fails(2, &["error: `run` already holds", "--resume run", "--overwrite", "--output"]);
    train(&work, "--steps 2 --output run --overwrite").succeeds();
    assert_eq!(summary(&work, "run")["steps"], 2);
    train(&work, "--steps 1 --overwrite").fails(2, &["--output"]);
}

#[test]
fn overwrite_removes_nothing_but_runs() {
    let work = Workplace::new();
    fs::create_dir(work.path("mine")).unwrap();
    work.write("mine/thesis.tex", "years of work");
    let refused = train(&work, "--steps 1 --output mine --overwrite");
    refused.fails(2, &["error: `mine` is not a run directory", "`thesis.tex`"]);
    assert!(work.path("mine/thesis.tex").exists());
}

#[test]
fn a_run_that_cannot_begin_leaves_no_directory() {
    let work = Workplace::new();
    let line = line(&work, "--steps 1");
    fs::write(work.path("student/model.safetensors"), "no weights").unwrap();
    work.line(&line).fails(1, &["error: ", "model.safetensors"]);
    let runs = fs::read_dir(work.path("runs")).unwrap();
    assert_eq!(runs.count(), 0);
}

#[test]
fn a_checkpoint_of_a_run_is_a_teacher() {
    let work = Workplace::new();
    train(&work, "--steps 4 --save-interval 2 --output run").succeeds();
    let student = work.path("student");
    let (student, prompts) = (student.display(), models::prompts(&work));
    let line = format!(
        "train --hf-checkpoint {student} --prompt-data {} --use-opd --opd-type in-process \
         --opd-teacher-load run --opd-teacher-ckpt-step 2 --steps 1 --rollout-max-response-len 3 \
         --rollout-batch-size 2",
        prompts.display()
    );
    let ran = work.line(&line).succeeds();
    assert!(ran.stderr.contains("run/checkpoints/step-2"), "{}", ran.stderr);
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let work = Workplace::new();
    train(&work, "--steps 3 --output a --seed 8").succeeds();
    train(&work, "--steps 3 --output b --seed 8 --threads 1").succeeds();
    train(&work, "--steps 3 --output c --seed 9").succeeds();
    let weights = |run: &str| fs::read(work.path(run).join("model/model.safetensors")).unwrap();
    assert_eq!(weights("a"), weights("b"));
    assert_ne!(weights("a"), weights("c"));
}
