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
    assert!(again.stdout.contains("student after"), "{}", again.stdout);
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
