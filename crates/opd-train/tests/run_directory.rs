//! Who may start, resume and replace a run, and what they are told if they may not.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use opd_train::run::{Error, Existing, RunDir};

/// A run that has written its configuration, and whose process is gone.
fn old_run(path: &Path) {
    let run = RunDir::create(path, Existing::Refuse).unwrap();
    fs::write(run.config(), "seed = 1\n").unwrap();
    fs::create_dir(run.checkpoints()).unwrap();
}

#[test]
fn a_new_run_takes_a_missing_or_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    RunDir::create(dir.path(), Existing::Refuse).unwrap();
    let nested = dir.path().join("a/b");
    let run = RunDir::create(&nested, Existing::Refuse).unwrap();
    assert_eq!(run.path(), nested);
    assert_eq!(run.summary().unwrap(), None);
}

#[test]
fn a_directory_in_use_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    old_run(&path);
    let message = RunDir::create(&path, Existing::Refuse).unwrap_err().to_string();
    let resume = format!("--resume {}", path.display());
    for part in [resume.as_str(), "--overwrite", "--output"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_stranger_s_directory_gets_no_file_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    for existing in [Existing::Refuse, Existing::Overwrite] {
        let message = RunDir::create(dir.path(), existing).unwrap_err().to_string();
        assert!(message.contains("thesis.tex"), "{message}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn overwriting_removes_the_run() {
    let dir = tempfile::tempdir().unwrap();
    old_run(dir.path());
    fs::write(dir.path().join(".tmp-model-1"), "left by a killed process").unwrap();
    let run = RunDir::create(dir.path(), Existing::Overwrite).unwrap();
    let names = fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["lock"]);
}

#[test]
fn inputs_alone_are_a_run_that_never_began() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    drop(RunDir::create(&path, Existing::Refuse).unwrap());
    fs::create_dir(path.join("inputs")).unwrap();
    drop(RunDir::create(&path, Existing::Refuse).unwrap());
    fs::write(path.join("config.toml"), "seed = 1\n").unwrap();
    RunDir::create(&path, Existing::Refuse).unwrap_err();
    let run = RunDir::create(&path, Existing::Overwrite).unwrap();
    assert!(!run.path().join("inputs").exists());
}

#[test]
fn overwriting_spares_a_run_with_something_foreign_in_it() {
    let dir = tempfile::tempdir().unwrap();
    old_run(dir.path());
    fs::write(dir.path().join("notes.md"), "").unwrap();
    let error = RunDir::create(dir.path(), Existing::Overwrite).unwrap_err();
    assert!(matches!(error, Error::NotARun { .. }), "{error}");
    assert!(dir.path().join("config.toml").exists());
    assert!(dir.path().join("checkpoints").exists());
}

#[test]
fn numbered_runs_take_the_first_free_number() {
    let dir = tempfile::tempdir().unwrap();
    let parent = dir.path().join("runs");
    let name = |run: &RunDir| run.path().file_name().unwrap().to_owned();
    let first = RunDir::create_numbered(&parent, "pocket").unwrap();
    let second = RunDir::create_numbered(&parent, "pocket").unwrap();
    assert_eq!(
        (name(&first).as_os_str(), name(&second).as_os_str()),
        ("pocket-1".as_ref(), "pocket-2".as_ref())
    );
    let path = first.path().to_owned();
    drop(first);
    fs::remove_dir_all(path).unwrap();
    assert_eq!(name(&RunDir::create_numbered(&parent, "pocket").unwrap()), "pocket-1");
}

#[test]
fn only_a_run_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let message = RunDir::resume(dir.path()).unwrap_err().to_string();
    assert!(message.contains("config.toml") && message.contains("--output"), "{message}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    old_run(dir.path());
    fs::write(dir.path().join(".tmp-report.html-1"), "").unwrap();
    RunDir::resume(dir.path()).unwrap();
    assert!(!dir.path().join(".tmp-report.html-1").exists());
}

#[test]
fn two_runs_in_one_process_are_refused_as_well() {
    let dir = tempfile::tempdir().unwrap();
    old_run(dir.path());
    let _run = RunDir::resume(dir.path()).unwrap();
    for error in [
        RunDir::resume(dir.path()).unwrap_err(),
        RunDir::create(dir.path(), Existing::Refuse).unwrap_err(),
        RunDir::create(dir.path(), Existing::Overwrite).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    }
    assert!(dir.path().join("config.toml").exists());
}

const DIR_OF_HOLDER: &str = "OPD_TEST_LOCK_HOLDER";

/// Not a test of its own: the other process of the next one.
#[test]
#[ignore = "run by `a_killed_process_releases_its_lock`"]
fn lock_holder() {
    let _run = RunDir::resume(std::env::var_os(DIR_OF_HOLDER).unwrap()).unwrap();
    eprintln!("locked");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_process_releases_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    old_run(dir.path());
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lock_holder", "--nocapture"])
        .env(DIR_OF_HOLDER, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(holder.stderr.take().unwrap());
    assert!(stderr.lines().any(|line| line.unwrap() == "locked"));

    let refused = RunDir::resume(dir.path()).unwrap_err();
    assert!(refused.to_string().contains(&format!("process {}", holder.id())), "{refused}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    RunDir::resume(dir.path()).unwrap();
}

#[test]
fn a_read_only_disk_is_named() {
    let Some(disk) = opd_testkit::Mount::tmpfs("256k") else { return };
    old_run(&disk.path().join("old"));
    disk.make_read_only();
    for (path, error) in [
        ("new", RunDir::create(disk.path().join("new"), Existing::Refuse).unwrap_err()),
        ("runs", RunDir::create_numbered(&disk.path().join("runs"), "x").unwrap_err()),
        ("old", RunDir::resume(disk.path().join("old")).unwrap_err()),
    ] {
        assert!(matches!(error, Error::NotWritable { .. }), "{error}");
        let message = error.to_string();
        let path = disk.path().join(path).display().to_string();
        assert!(message.contains(&path) && message.contains("read-only"), "{message}");
    }
}

#[test]
fn a_directory_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(dir.path().join("probe"), "").is_ok() {
        opd_testkit::skipped("this user (root?) may write to any directory");
        return;
    }
    let error = RunDir::create(dir.path(), Existing::Refuse).unwrap_err();
    assert!(matches!(error, Error::NotWritable { .. }), "{error}");
}
