#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use crate::{
    command::{Workplace, records},
    training,
};

/// Starts a run in `run` and presses Ctrl-C when `word` appears on stderr; code and stderr.
fn interrupt(work: &Workplace, flags: &str, word: &str) -> (Option<i32>, String) {
    let line = training::line(work, flags);
    let mut command = work.command();
    command.args(line.split_whitespace()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(word) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "no {word:?} in {said}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    stderr.read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn ctrl_c_saves_and_resume_ends_as_if_nothing_had_happened() {
    let work = Workplace::new();
    let flags = "--steps 2000 --eval-prompts 2";
    let (code, said) = interrupt(&work, &format!("{flags} --output run"), "step   10/2000");
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("press Ctrl-C again to leave at once"), "{said}");
    assert!(said.contains("go on with: opd train --resume run"), "{said}");
    assert!(!work.path("run/summary.json").exists());
    let done = records(&work.path("run/metrics.jsonl")).len();
    assert!((10..2000).contains(&done), "{done}");

    // A shorter goal for the same run, so that the test ends soon.
    let config = fs::read_to_string(work.path("run/config.toml")).unwrap();
    let steps = done + 5;
    let config = config.replace("steps = 2000", &format!("steps = {steps}"));
    fs::write(work.path("run/config.toml"), config).unwrap();
    let ran = work.line("train --resume run").succeeds();
    assert!(ran.stderr.contains(&format!("going on after step {}", done)), "{}", ran.stderr);
    for row in ["student before", "student after", "teacher"] {
        let row = ran.stdout.lines().find(|line| line.starts_with(row));
        assert!(row.is_some_and(|row| row.matches('%').count() == 3), "{}", ran.stdout);
    }

    let again = work.line("train --resume run").succeeds();
    assert!(again.stderr.contains("the run is finished"), "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout, "the same table, intervals included");
}

#[test]
fn ctrl_c_is_noticed_while_prompts_are_answered() {
    for (word, steps) in [("student before: answering", 0), ("student after: answering", 2)] {
        let work = Workplace::new();
        let flags = "--steps 2 --n-samples-per-eval-prompt 2000 --eval-teacher=false --output run";
        let (code, said) = interrupt(&work, flags, word);
        assert_eq!(code, Some(130), "{said}");
        let expected = format!("interrupted: {steps} steps are done and saved; go on with");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(said.contains("step 1/2"), steps > 0, "{said}");
        assert!(work.path("run/config.toml").exists() && !work.path("run/summary.json").exists());
    }
}

#[test]
fn a_run_may_be_moved() {
    let work = Workplace::new();
    let flags = "--rollout-batch-size 2 --n-samples-per-prompt 2 --eval-prompts 4 \
                 --validation-prompts 4";
    work.line(&format!("train --steps 2 {flags} --output a")).succeeds();
    let config = fs::read_to_string(work.path("a/config.toml")).unwrap();
    assert!(config.contains("path = \"inputs/student\""), "{config}");
    fs::create_dir(work.path("elsewhere")).unwrap();
    fs::rename(work.path("a"), work.path("elsewhere/b")).unwrap();

    // As if it had been killed after its second step of three.
    fs::remove_file(work.path("elsewhere/b/summary.json")).unwrap();
    let config = config.replace("steps = 2", "steps = 3");
    fs::write(work.path("elsewhere/b/config.toml"), config).unwrap();
    let ran = work.line("train --resume elsewhere/b").succeeds();
    assert!(ran.stderr.contains("going on after step 2"), "{}", ran.stderr);
    assert_eq!(records(&work.path("elsewhere/b/metrics.jsonl")).len(), 4, "with step 0");

    let settings = "train --config elsewhere/b/config.toml --steps 1 --output again";
    work.line(settings).succeeds();
}

#[test]
fn only_what_does_not_change_a_run_may_stand_beside_resume() {
    let work = Workplace::new();
    for (flags, flag) in [
        ("--lr 1", "--lr"),
        ("--steps 3 --seed 1", "--steps"),
        ("--output x", "--output"),
        ("--use-opd", "--use-opd"),
        ("--print-config", "--print-config"),
        ("--config job.toml", "--config"),
    ] {
        let expected = format!("error: {flag} with --resume run: a resumed run keeps the settings");
        let ran = work.line(&format!("train --resume run {flags}"));
        ran.fails(2, &[&expected, "only --device, --threads and --quiet"]);
    }
    let allowed = "train --resume run --device cpu --threads 1 --quiet";
    work.line(allowed).fails(2, &["error: `run` is not a run directory: it has no `config.toml`"]);
}

#[test]
fn a_directory_is_locked() {
    let work = Workplace::new();
    let line = training::line(&work, "--steps 100000 --eval-prompts 2 --output run");
    let mut command = work.command();
    command.args(line.split_whitespace()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("step      1/") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let refused = work.line("train --resume run");
    child.kill().unwrap();
    child.wait().unwrap();
    refused.fails(1, &["error: `run` is in use by process", "--output"]);
}
