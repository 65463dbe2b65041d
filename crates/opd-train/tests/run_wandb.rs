//! Logs of Weights & Biases, read back by a reader that shares nothing with the writer, and that
//! reads what wandb itself wrote.
#![allow(clippy::unwrap_used, missing_docs)]

mod wandb_log;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use opd_train::run::{MetricSink, StepMetrics, Wandb, WandbRun};
use wandb_log::read;

/// Written by `data/wandb/make.py` with wandb 0.31.0.
const REFERENCE: &[u8] = include_bytes!("data/wandb/reference.wandb");

fn run() -> WandbRun {
    WandbRun {
        name: "name".into(),
        project: Some("project".into()),
        group: Some("group".into()),
        entity: Some("team".into()),
        config: vec![("steps".into(), "3".into()), ("optimizer".into(), r#"{"lr":0.001}"#.into())],
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_420_154_881)
}

fn line(step: u64) -> StepMetrics {
    StepMetrics::new(step)
        .with("reverse_kl", 0.5 / step as f64)
        .with("ratio/mean", 1.0)
        .with("broken", f64::NAN)
}

fn open(dir: &Path, last: Option<u64>) -> Wandb {
    let mut sink = Wandb::open(dir, run(), now()).unwrap();
    sink.start(last).unwrap();
    sink
}

#[test]
fn it_is_read_as_what_wandb_wrote() {
    let work = tempfile::tempdir().unwrap();
    let mut sink = open(work.path(), None);
    for step in 1..=3 {
        sink.write(&line(step)).unwrap();
    }
    sink.finish().unwrap();
    let path = sink.path().to_owned();
    let dir = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let id = dir.strip_prefix("offline-run-20261123_074914-").unwrap();
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("run-{id}.wandb"));
    assert!(id.len() == 8 && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
    let mut reference = read(REFERENCE);
    assert_eq!(reference.history.len(), 3);
    assert_eq!(reference.history[1].1["reverse_kl"], 0.25);
    reference.run.as_mut().unwrap().id = id.to_owned();
    assert_eq!(read(&fs::read(&path).unwrap()), reference);
}

/// A run that is killed, and resumed from a checkpoint of step 2.
fn killed(dir: &Path, spoil: impl Fn(&mut Vec<u8>)) -> (PathBuf, Vec<u8>) {
    let mut sink = open(dir, None);
    for step in 0..=4 {
        sink.write(&line(step)).unwrap();
    }
    let path = sink.path().to_owned();
    drop(sink);
    let mut bytes = fs::read(&path).unwrap();
    spoil(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn steps(path: &Path) -> Vec<u64> {
    read(&fs::read(path).unwrap()).history.into_iter().map(|(step, _)| step).collect()
}

#[test]
fn a_resumed_run_has_every_step_once() {
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(&str, Spoil); 3] = [
        ("whole", |_| ()),
        ("torn", |bytes| bytes.truncate(bytes.len() - 5)),
        ("garbage", |bytes| bytes.extend_from_slice(b"\x01\x02garbage behind the end")),
    ];
    for (name, spoil) in cases {
        let work = tempfile::tempdir().unwrap();
        let (path, before) = killed(work.path(), spoil);
        let mut sink = open(work.path(), Some(2));
        assert_eq!(sink.path(), path, "{name}: it is the same run");
        for step in 3..=5 {
            sink.write(&line(step)).unwrap();
        }
        sink.finish().unwrap();
        assert_eq!(steps(&path), [0, 1, 2, 3, 4, 5], "{name}");
        let after = fs::read(&path).unwrap();
        assert!(after.starts_with(&before[..200]), "{name}: what counts keeps its bytes");
        assert_eq!(read(&after).exits, 1, "{name}");
    }
}

#[test]
fn a_finished_run_that_goes_on_has_one_end() {
    let work = tempfile::tempdir().unwrap();
    let mut sink = open(work.path(), None);
    sink.write(&line(1)).unwrap();
    sink.finish().unwrap();
    let mut sink = open(work.path(), Some(1));
    sink.finish().unwrap();
    let log = read(&fs::read(sink.path()).unwrap());
    assert_eq!((log.history.len(), log.exits), (1, 1));
}

#[test]
fn an_attempt_without_a_checkpoint_leaves_nothing() {
    let work = tempfile::tempdir().unwrap();
    let (path, _) = killed(work.path(), |_| ());
    let mut sink = open(work.path(), None);
    sink.write(&line(0)).unwrap();
    assert_eq!(sink.path(), path);
    assert_eq!(steps(&path), [0]);
    // A step 0 that a checkpoint stands behind stays.
    drop(sink);
    let mut sink = open(work.path(), Some(0));
    sink.write(&line(1)).unwrap();
    assert_eq!(steps(&path), [0, 1]);
}

#[test]
fn a_damaged_log_is_begun_anew() {
    let work = tempfile::tempdir().unwrap();
    let (path, _) = killed(work.path(), |bytes| bytes[9] ^= 1);
    let mut sink = open(work.path(), Some(4));
    sink.write(&line(5)).unwrap();
    assert_eq!(steps(&path), [5]);
}

#[test]
fn many_steps_cross_blocks() {
    let work = tempfile::tempdir().unwrap();
    let mut sink = open(work.path(), None);
    for step in 1..=600 {
        sink.write(&line(step)).unwrap();
    }
    let path = sink.path().to_owned();
    assert!(fs::metadata(&path).unwrap().len() > 3 * 32_768);
    assert_eq!(steps(&path), (1..=600).collect::<Vec<_>>());
    drop(sink);
    let mut sink = open(work.path(), Some(333));
    sink.write(&line(334)).unwrap();
    assert_eq!(steps(&path), (1..=334).collect::<Vec<_>>());
}
