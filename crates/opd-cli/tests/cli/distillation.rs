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
fn a_server_at_another_temperature() {
    let server = "--use-opd --opd-type vllm --rm-url http://127.0.0.1:1";
    train(&Workplace::new(), &format!("{server} --rollout-temperature 0.7")).fails(
        2,
        &[
            "error: samples are drawn at temperature 0.7, and teacher `vllm` scores at",
            "sample at 1 (--rollout-temperature 1), serve the teacher with `opd serve`",
            "--opd-accept-temperature-bias",
        ],
    );
}

#[test]
fn a_server_and_whole_distributions() {
    let server = "--use-opd --opd-type sglang --rm-url http://127.0.0.1:1 --loss reverse_kl";
    train(&Workplace::new(), server)
        .fails(2, &["error: the loss ReverseKl compares whole distributions", "in-process"]);
}

#[test]
fn keys_that_are_not_there() {
    let server = "--use-opd --opd-type sglang --rm-url http://127.0.0.1:1";
    train(&Workplace::new(), &format!("{server} --rm-api-key-env OPD_NO_SUCH_KEY"))
        .fails(2, &["error: environment variable OPD_NO_SUCH_KEY holds no key: it is not set"]);
    train(&Workplace::new(), &format!("{server} --rm-api-key-file nowhere"))
        .fails(2, &["error: nowhere: no key can be read from it"]);
    let both = format!("{server} --rm-api-key-file nowhere --rm-api-key-env PATH");
    train(&Workplace::new(), &both).fails(2, &["both name a key; give one of them"]);
    let own = "--use-opd --opd-type in-process --opd-teacher-load teacher --rm-api-key-env PATH";
    train(&Workplace::new(), own).fails(2, &["go with --opd-type sglang or vllm"]);
}

#[test]
fn how_many_scores_may_be_missing() {
    let own = "--use-opd --opd-type in-process --opd-teacher-load teacher";
    train(&Workplace::new(), &format!("{own} --opd-missing-max 1.5")).fails(
        2,
        &["error: distillation.max_missing must be from 0 to 1, got 1.5 (flag --opd-missing-max)"],
    );
}

#[test]
fn several_teachers_that_do_not_go_together() {
    let work = Workplace::new();
    let student = work.model_stub("student");
    work.model_stub("teacher");
    work.write("prompts.jsonl", "{\"prompt\": \"1\"}\n");
    let refused = |teachers: &str, said: &[&str]| {
        let text = format!(
            "steps = 3\n[student]\npath = \"{student}\"\n[data]\ntrain = \"prompts.jsonl\"\n{teachers}"
        );
        work.write("job.toml", &text);
        work.line("train --config job.toml").fails(2, said);
    };
    let a = "[[teacher]]\nname = \"a\"\npath = \"teacher\"\n";
    refused(a, &["[[teacher]] without [distillation]"]);
    let with = |more: &str| format!("[distillation]\n{a}{more}");
    refused(&with(a), &["two teachers are named `a`"]);
    refused(
        &with("coef = 0.5\n[[teacher]]\nname = \"b\"\npath = \"teacher\"\n"),
        &["form an ensemble"],
    );
    refused(&with("weight = 0\n"), &["teacher.weight must be finite and above 0, got 0"]);
    refused(&with("[[teacher]]\nname = \"b\"\n"), &["teacher `b`: it has no `path`"]);
    refused(&with("colour = 1\n"), &["job.toml:", "unknown field `colour`"]);
    refused(
        &with("[[teacher]]\nname = \"b\"\ntype = \"vllm\"\n"),
        &["teacher `b`: it has no `urls`"],
    );
    refused(&with("[[teacher]]\nname = \"b c\"\n"), &["teacher.name must be letters"]);
    let twice = with("").replace("[distillation]", "[distillation]\nteacher = \"teacher\"");
    refused(&twice, &["1 [[teacher]] tables, and another teacher in [distillation]"]);
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
