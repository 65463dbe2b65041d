use std::fs;

use opd_train::config::TrainConfig;

use crate::command::Workplace;

fn config(toml: &str) -> TrainConfig {
    toml::from_str(toml).unwrap()
}

#[test]
fn the_default_job_is_printed_and_read_back() {
    let work = Workplace::new();
    let printed = work.line("train --print-config").succeeds();
    assert_eq!(printed.stderr, "");
    assert!(work.names().is_empty(), "{:?}", work.names());
    work.write("job.toml", &printed.stdout);
    let again = work.line("train --config job.toml --print-config").succeeds().stdout;
    assert_eq!(again, printed.stdout);
    let job = config(&again);
    assert_eq!((job.name.as_str(), job.student.path.to_str()), ("pocket", Some("bundled:student")));
    assert!(job.distillation.is_some());
}

#[test]
fn settings_that_name_no_job_change_the_default_one() {
    let work = Workplace::new();
    let line = "train --loss reverse_kl --steps 7 --lr 0.25 --seed 3 --clip-grad 0 --print-config";
    let mut expected = config(&work.line("train --print-config").succeeds().stdout);
    (expected.steps, expected.seed, expected.optimizer.lr) = (7, 3, 0.25);
    expected.optimizer.clip_grad = None;
    expected.objective.loss = opd_train::config::LossKind::ReverseKl;
    assert_eq!(config(&work.line(line).succeeds().stdout), expected);
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let work = Workplace::new();
    let (student, teacher) = (work.model_stub("student"), work.model_stub("teacher"));
    work.write("prompts.jsonl", "{\"prompt\": \"1\"}\n");
    work.write(
        "job.toml",
        &format!(
            "steps = 5\nseed = 9\n[student]\npath = \"{student}\"\n[data]\n\
             train = \"prompts.jsonl\"\n[distillation]\nteacher = \"{teacher}\"\nkl_coef = 0.5\n"
        ),
    );
    let line = "train --config job.toml --steps 6 --opd-kl-coef 0.75 --print-config";
    let printed = config(&work.line(line).succeeds().stdout);
    assert_eq!((printed.steps, printed.seed, printed.rollout.prompts), (6, 9, 32));
    assert_eq!(printed.distillation.unwrap().kl_coef, 0.75);
    assert_eq!(printed.name, "student");
}

#[test]
fn a_flag_of_the_other_kind_of_teacher_replaces_that_of_the_file() {
    let work = Workplace::new();
    let (student, teacher) = (work.model_stub("student"), work.model_stub("teacher"));
    work.write("prompts.jsonl", "{\"prompt\": \"1\"}\n");
    let text = format!(
        "steps = 5\n[student]\npath = \"{student}\"\n[data]\ntrain = \"prompts.jsonl\"\n\
         [distillation]\ntype = \"sglang\"\nurls = [\"http://h\"]\n"
    );
    work.write("job.toml", &text);
    let distillation =
        config(&work.line("train --config job.toml --print-config").succeeds().stdout);
    assert_eq!(distillation.distillation.unwrap().urls, ["http://h"]);
    let line = format!(
        "train --config job.toml --opd-type in-process --opd-teacher-load {teacher} --print-config"
    );
    let distillation = config(&work.line(&line).succeeds().stdout).distillation.unwrap();
    assert!(distillation.urls.is_empty());
    assert_eq!(distillation.teacher.unwrap().to_str().unwrap(), teacher);
}

#[test]
fn faults_of_a_file_name_file_line_and_key() {
    let work = Workplace::new();
    for (text, expected) in [
        ("step = 3\n", "error: job.toml:1: unknown key `step`; the nearest known one is `steps`"),
        (
            "steps = 3\n\n[optimizer]\nlearning-rate = 1e-4\n",
            "error: job.toml:4: unknown key `optimizer.learning-rate`; the nearest known one is",
        ),
        ("steps = \"3\"\n", "error: job.toml:1: `steps` must be a whole number of at least 0"),
        ("steps = 3 4\n", "error: job.toml:1: not TOML"),
    ] {
        work.write("job.toml", text);
        work.line("train --config job.toml").fails(2, &[expected]);
    }
    work.line("train --config other.toml").fails(2, &["error: --config other.toml: cannot read"]);
    assert_eq!(work.names(), ["job.toml"]);
}

#[test]
fn values_out_of_range_name_key_flag_and_range() {
    let work = Workplace::new();
    for (flags, parts) in [
        ("--gamma 1.5", ["objective.gamma must be from 0 to 1, got 1.5", "--gamma"]),
        ("--rollout-batch-size 0", ["rollout.prompts must be at least 1", "--rollout-batch-size"]),
        ("--rollout-top-p 1.5", ["rollout.top_p must be", "--rollout-top-p"]),
        ("--rollout-repetition-penalty 0", ["'0' for '--rollout-repetition", "above 0"]),
        ("--eps-clip-c 0.5", ["objective.clip.dual must be above 1", "--eps-clip-c"]),
        ("--adam-beta2 1", ["optimizer.beta2 must be", "--adam-beta2"]),
        ("--kl-loss-coef 1 --kl-loss-type k1", ["its expected gradient is zero", "--kl-loss-type"]),
        ("--name a/b", ["--name a/b", "it names a directory"]),
    ] {
        work.line(&format!("train {flags}")).fails(2, &parts);
    }
    assert!(work.names().is_empty());
}

#[test]
fn paths_that_lead_nowhere_are_refused_before_a_run_begins() {
    let work = Workplace::new();
    let student = work.model_stub("student");
    work.write("prompts.jsonl", "{\"prompt\": \"1\"}\n");
    fs::create_dir(work.path("empty")).unwrap();
    let teacher = "--use-opd --opd-type in-process --opd-teacher-load";
    for (flags, expected) in [
        (
            format!("--hf-checkpoint nowhere --prompt-data prompts.jsonl {teacher} {student}"),
            "error: --hf-checkpoint (key student.path): nowhere is not a directory",
        ),
        (
            format!("--hf-checkpoint empty --prompt-data prompts.jsonl {teacher} {student}"),
            "error: --hf-checkpoint (key student.path): empty holds no config.json",
        ),
        (
            format!("--hf-checkpoint {student} --prompt-data p.jsonl {teacher} {student}"),
            "error: --prompt-data (key data.train): p.jsonl does not exist",
        ),
        (
            format!("--hf-checkpoint {student} --prompt-data empty {teacher} {student}"),
            "error: --prompt-data (key data.train): empty is not a file",
        ),
        (
            format!("--hf-checkpoint {student} --prompt-data prompts.jsonl {teacher} nowhere"),
            "error: --opd-teacher-load (key distillation.teacher): nowhere is not a directory",
        ),
        (
            format!(
                "--hf-checkpoint bundled:pupil --prompt-data prompts.jsonl {teacher} {student}"
            ),
            "error: bundled:pupil is not bundled; there are bundled:student, bundled:teacher",
        ),
        (
            format!("--hf-checkpoint {student} {teacher} {student}"),
            "error: data.train is not set; name a JSONL or Parquet file of prompts with --prompt-data FILE",
        ),
    ] {
        work.line(&format!("train --steps 2 {flags}")).fails(2, &[expected]);
    }
    assert!(!work.path("runs").exists());
}
