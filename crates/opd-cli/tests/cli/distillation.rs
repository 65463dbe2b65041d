use std::fs;

use crate::command::{Ran, Workplace};

/// A line of `opd train` with a student and prompts that are there.
fn train(work: &Workplace, flags: &str) -> Ran {
    let student = work.model_stub("student");
    work.model_stub("teacher");
    work.write("prompts.jsonl", "{\"prompt\": \"1\"}\n");
    let ran = work.line(&format!(
        "train --hf-checkpoint {student} --prompt-data prompts.jsonl --steps 3 {flags}"
    ));
    assert!(!work.path("runs").exists(), "a refused run leaves no directory");
    ran
}

#[test]
fn opd_without_a_type() {
    train(&Workplace::new(), "--use-opd").fails(
        2,
        &["error: --use-opd without --opd-type: say where the teacher is", "--opd-teacher-load"],
    );
}

#[test]
fn in_process_without_a_teacher() {
    train(&Workplace::new(), "--use-opd --opd-type in-process")
        .fails(2, &["error: distillation.teacher is not set", "with --opd-teacher-load DIR"]);
    train(&Workplace::new(), "--use-opd --opd-type megatron")
        .fails(2, &["with --opd-teacher-load DIR"]);
}

#[test]
fn sglang_with_a_teacher_in_process() {
    train(&Workplace::new(), "--use-opd --opd-type sglang --opd-teacher-load teacher").fails(
        2,
        &["error: --opd-teacher-load goes with --opd-type in-process", "drop --opd-teacher-load"],
    );
    train(&Workplace::new(), "--use-opd --opd-type sglang --opd-teacher-ckpt-step 3")
        .fails(2, &["error: --opd-teacher-ckpt-step goes with --opd-type in-process"]);
}

#[test]
fn sglang_without_a_url() {
    train(&Workplace::new(), "--use-opd --opd-type sglang")
        .fails(2, &["error: distillation.urls is not set", "with --rm-url URL"]);
}

#[test]
fn sglang_is_not_there_yet() {
    train(&Workplace::new(), "--use-opd --opd-type sglang --rm-url http://localhost:30000")
        .fails(2, &["error: --opd-type sglang: this version", "use --opd-type in-process"]);
}

#[test]
fn in_process_with_a_url() {
    let flags = "--use-opd --opd-type in-process --opd-teacher-load teacher --rm-url http://h";
    train(&Workplace::new(), flags).fails(2, &["error: --rm-url goes with --opd-type sglang"]);
}

#[test]
fn settings_of_a_teacher_without_distillation() {
    for (flags, expected) in [
        ("--opd-teacher-load teacher", "error: --opd-teacher-load without --use-opd"),
        ("--opd-type in-process", "error: --opd-type without --use-opd"),
        ("--opd-kl-coef 0.5", "error: --opd-kl-coef without --use-opd"),
        ("--opd-teacher-ckpt-step 3", "error: --opd-teacher-ckpt-step without --use-opd"),
        ("--rm-url http://h", "error: --rm-url without --use-opd"),
    ] {
        train(&Workplace::new(), flags).fails(2, &[expected, "add --use-opd, or drop"]);
    }
}

#[test]
fn no_teacher_and_nothing_to_learn_from() {
    train(&Workplace::new(), "").fails(2, &["error: there is no teacher", "add --use-opd"]);
    train(&Workplace::new(), "--loss jsd --advantage-estimator grpo")
        .fails(2, &["error: the loss Jsd compares the student with a teacher", "--use-opd"]);
}

#[test]
fn a_checkpoint_of_a_plain_model_directory() {
    let flags = "--use-opd --opd-type in-process --opd-teacher-load teacher";
    train(&Workplace::new(), &format!("{flags} --opd-teacher-ckpt-step 50")).fails(
        2,
        &[
            "error: --opd-teacher-ckpt-step 50: teacher is not a run directory",
            "drop --opd-teacher-ckpt-step",
        ],
    );
}

#[test]
fn a_checkpoint_that_a_run_does_not_have() {
    let work = Workplace::new();
    for step in ["step-100", "step-50", ".tmp-step-150-7"] {
        fs::create_dir_all(work.path("old/checkpoints").join(step)).unwrap();
    }
    work.write("old/config.toml", "");
    let flags = "--use-opd --opd-type in-process --opd-teacher-load old";
    train(&work, &format!("{flags} --opd-teacher-ckpt-step 75")).fails(
        2,
        &["error: --opd-teacher-ckpt-step 75: old has checkpoints of step 50, 100; choose"],
    );
    train(&work, flags).fails(
        2,
        &[
            "error: --opd-teacher-load (key distillation.teacher): old is a run directory",
            "old/model",
        ],
    );
}
