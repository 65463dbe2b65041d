//! Several `--prompt-data` files: one data set, also for a run that is resumed.

use std::{fs, path::Path};

use crate::{
    command::{Ran, Workplace},
    models,
};

/// The twelve prompts of a file in a file of five and one of seven.
fn split(work: &Workplace) {
    let whole = fs::read_to_string(models::prompts(work)).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 12);
    work.write("whole.jsonl", &whole);
    work.write("a.jsonl", &lines[..5].concat());
    work.write("b.jsonl", &lines[5..].concat());
}

/// Four steps of two prompts: the third takes one of either file, in their order.
fn train(work: &Workplace, flags: &str) -> Ran {
    let (student, teacher) =
        (models::digits(work, "student", 1), models::digits(work, "teacher", 2));
    let (student, teacher) = (student.display(), teacher.display());
    work.line(&format!(
        "train --hf-checkpoint {student} --use-opd --opd-type in-process --opd-teacher-load \
         {teacher} --rollout-batch-size 2 --n-samples-per-prompt 2 --rollout-max-response-len 3 \
         --lr 1e-3 --steps 4 --seed 8 --save-interval 1 --keep-last 9 {flags}"
    ))
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("model/model.safetensors")).unwrap()
}

#[test]
fn files_train_as_one_that_holds_all_their_rows() {
    let work = Workplace::new();
    split(&work);
    for shuffle in [true, false] {
        let of = |files: &str, run: &str| {
            let flags = format!("{files} --rollout-shuffle={shuffle} --output {run} --overwrite");
            train(&work, &flags).succeeds();
            weights(&work.path(run))
        };
        let whole = of("--prompt-data whole.jsonl", "whole");
        assert_eq!(of("--prompt-data a.jsonl --prompt-data b.jsonl", "two"), whole);
        assert_ne!(of("--prompt-data b.jsonl --prompt-data a.jsonl", "turned"), whole);
        assert_ne!(of("--prompt-data a.jsonl", "one"), whole);
    }
    let train_of = |run: &str| {
        let config = fs::read_to_string(work.path(run).join("config.toml")).unwrap();
        let config: toml::Table = config.parse().unwrap();
        config["data"]["train"].clone()
    };
    let path = |name: &str| toml::Value::from(work.path(name).display().to_string());
    assert_eq!(train_of("one"), path("a.jsonl"), "one file is a text, as it was");
    assert_eq!(train_of("two"), toml::Value::from(vec![path("a.jsonl"), path("b.jsonl")]));
    let again = train(&work, "--config two/config.toml --output again");
    again.succeeds();
    assert_eq!(weights(&work.path("again")), weights(&work.path("two")));
}

#[test]
fn faults_name_the_file_that_has_them() {
    let work = Workplace::new();
    split(&work);
    work.write("c.jsonl", "{\"prompt\": \"1\"}\n{}\n");
    train(&work, "--prompt-data a.jsonl --prompt-data c.jsonl")
        .fails(1, &["c.jsonl:2: field `prompt` is missing"]);
    train(&work, "--prompt-data a.jsonl --prompt-data d.jsonl")
        .fails(2, &["error: --prompt-data (key data.train): d.jsonl does not exist"]);
    let skipping = "--prompt-data a.jsonl --prompt-data c.jsonl --bad-rows skip";
    let ran = train(&work, skipping).succeeds();
    assert!(ran.stderr.contains("c.jsonl:2: field `prompt`"), "{}", ran.stderr);
    let counted = "a.jsonl, c.jsonl: 1 bad rows are left out, 6 are used";
    assert!(ran.stderr.contains(counted), "{}", ran.stderr);
}

#[test]
fn a_run_goes_on_across_files_and_only_with_the_same_ones() {
    let work = Workplace::new();
    split(&work);
    let files = "--prompt-data a.jsonl --prompt-data b.jsonl --rollout-shuffle=false";
    train(&work, &format!("{files} --output whole")).succeeds();
    train(&work, &format!("{files} --output run")).succeeds();

    // As if it had been killed after its second step: the third is the one that takes both files.
    let run = work.path("run");
    for gone in ["checkpoints/step-3", "checkpoints/step-4", "model"] {
        fs::remove_dir_all(run.join(gone)).unwrap();
    }
    fs::remove_file(run.join("summary.json")).unwrap();
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let place = |name: &str| work.path(name).display().to_string();
    let (a, b) = (place("a.jsonl"), place("b.jsonl"));
    let held = format!("[\"{a}\", \"{b}\"]");
    let resume = |list: &str| {
        let listed = config.replace(&held, list);
        assert!(listed.contains(list), "{listed}");
        fs::write(run.join("config.toml"), listed).unwrap();
        work.line("train --resume run")
    };
    let whole = place("whole.jsonl");
    for (list, expected) in [
        (
            format!("[\"{b}\", \"{a}\"]"),
            format!("file 1 was {a} and is {b}; file 2 was {b} and is {a}"),
        ),
        (format!("[\"{a}\"]"), format!("file 2, {b}, is gone")),
        (format!("[\"{a}\", \"{b}\", \"{whole}\"]"), format!("file 3, {whole}, is new")),
        (format!("[\"{a}\", \"{b}@[:6]\"]"), format!("file 2 was {b} and is {b}@[:6]")),
    ] {
        let said = "data.train is not what the run was saved with: ";
        let remedy = "; put the files back, or start another run with --config run/config.toml";
        resume(&list).fails(1, &["error: run/config.toml: ", said, &expected, remedy]);
    }
    fs::write(run.join("config.toml"), &config).unwrap();
    let other =
        train(&work, "--prompt-data a.jsonl --rollout-shuffle=false --output run --continue");
    other.fails(2, &["was started with other settings: data.train (there [", "b.jsonl"]);
    let rows = fs::read_to_string(work.path("b.jsonl")).unwrap();
    work.write("b.jsonl", &format!("{rows}{{\"prompt\": \"1\"}}\n"));
    work.line("train --resume run")
        .fails(1, &[&format!("file 2, {b}, had 7 rows in use and has 8")]);
    work.write("b.jsonl", &rows);

    // Files that were moved are the same.
    let moved = place("moved.jsonl");
    fs::rename(&a, &moved).unwrap();
    let ran = resume(&format!("[\"{moved}\", \"{b}\"]")).succeeds();
    assert!(ran.stderr.contains("going on after step 2"), "{}", ran.stderr);
    assert_eq!(weights(&run), weights(&work.path("whole")));
}
