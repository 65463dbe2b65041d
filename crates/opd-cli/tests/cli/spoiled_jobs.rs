use std::{fs, path::Path};

use opd_testkit::Mount;

use crate::{command::Workplace, training};

/// What a run says of its inputs once `spoil` was at them; it leaves no directory behind.
#[track_caller]
fn refused(spoil: impl FnOnce(&Path), expected: &[&str]) {
    let work = Workplace::new();
    let line = training::line(&work, "--steps 1");
    spoil(work.dir());
    work.line(&line).fails(1, expected);
    let left = fs::read_dir(work.path("runs")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "an empty run directory stays");
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn weights_that_are_missing_or_cut_short() {
    let weights = "model.safetensors";
    refused(
        |dir| fs::remove_file(dir.join("student").join(weights)).unwrap(),
        &["error: ", "student/model.safetensors", "No such file"],
    );
    refused(
        |dir| {
            let path = dir.join("teacher").join(weights);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
        },
        &["error: ", "teacher/model.safetensors: truncated: expected", "fetch or save it again"],
    );
}

#[test]
fn an_architecture_that_is_not_known() {
    refused(
        |dir| edit(&dir.join("student/config.json"), "Qwen3ForCausalLM", "MambaForCausalLM"),
        &["error: ", "MambaForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM"],
    );
}

#[test]
fn a_teacher_with_another_tokenizer() {
    refused(
        |dir| {
            let path = dir.join("teacher/tokenizer.json");
            edit(&path, "\"3\": 5", "\"3\": 6");
            edit(&path, "\"4\": 6", "\"4\": 5");
        },
        &["error: teacher ", "token ids do not agree", "caused by: ", "must share one tokenizer"],
    );
}

#[test]
fn prompts_that_do_not_fit_the_context() {
    refused(
        |dir| {
            let long = "1".repeat(62);
            let path = dir.join("bundle/train.jsonl");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, format!("{text}{{\"prompt\": \"{long}\"}}\n")).unwrap();
        },
        &[
            "train.jsonl:13: the prompt has 62 tokens; with 3 for the response",
            "context of 64 is exceeded",
            "drop it, lower rollout.max_response_tokens",
        ],
    );
}

#[test]
fn a_line_of_the_prompts_that_is_not_json() {
    refused(
        |dir| {
            let path = dir.join("bundle/train.jsonl");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, format!("{text}{{\"prompt\": \n")).unwrap();
        },
        &["error: ", "train.jsonl:13: "],
    );
}

#[test]
fn a_disk_that_is_full_at_a_checkpoint() {
    let Some(disk) = Mount::tmpfs("1500k") else { return };
    let work = Workplace::new();
    let run = disk.path().join("run");
    let flags = format!("--steps 2 --save-interval 1 --keep-last 9 --output {}", run.display());
    let ran = work.line(&training::line(&work, &flags));
    ran.fails(1, &["error: no space left on the disk of", "step-", "--resume", "is intact"]);
}

#[test]
fn a_run_directory_that_is_read_only() {
    let Some(disk) = Mount::tmpfs("256k") else { return };
    disk.make_read_only();
    let work = Workplace::new();
    let run = disk.path().join("run");
    let ran = work.line(&training::line(&work, &format!("--steps 1 --output {}", run.display())));
    ran.fails(1, &["error: cannot write `", "it is read-only", "--output"]);
}
