//! Checkpoints through kills, damage and full disks.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use opd_train::run::{Checkpoint, CheckpointStore, Error, Existing, RunDir};
use tracing::{
    Level, Metadata,
    span::{Attributes, Id, Record},
};

fn open(run: &RunDir, keep_last: usize) -> CheckpointStore {
    CheckpointStore::open(run, NonZeroUsize::new(keep_last).unwrap()).unwrap()
}

fn new_run(dir: &Path) -> RunDir {
    RunDir::create(dir.join("run"), Existing::Refuse).unwrap()
}

/// What a trainer writes: weights, and optimizer state in a directory of its own.
fn weights(byte: u8, bytes: usize) -> impl FnOnce(&Path) -> io::Result<()> {
    move |dir| {
        fs::write(dir.join("model.safetensors"), vec![byte; bytes])?;
        fs::create_dir(dir.join("optimizer"))?;
        fs::write(dir.join("optimizer/moments.safetensors"), vec![byte; 2 * bytes])
    }
}

fn save(store: &CheckpointStore, step: u64, score: Option<f64>) -> PathBuf {
    store.save(step, score, weights(step as u8, 100)).unwrap()
}

/// Everything under `dir`, with its content.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            let content = fs::read(&path).unwrap();
            files.push((path, content));
        }
    }
    files.sort();
    files
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The latest step and the number of warnings on the way to it.
fn latest(store: &CheckpointStore) -> (Option<u64>, usize) {
    let warnings = Warnings::default();
    let latest = tracing::subscriber::with_default(warnings.clone(), || store.latest().unwrap());
    (latest.map(|checkpoint| checkpoint.step()), warnings.0.load(Ordering::Relaxed))
}

#[test]
fn what_is_saved_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 3);
    assert_eq!(latest(&store), (None, 0));
    assert!(store.best().unwrap().is_none());
    save(&store, 9, Some(0.5));
    let path = save(&store, 10, None);
    assert_eq!(path, run.path().join("checkpoints/step-10"));
    let checkpoint = store.latest().unwrap().unwrap();
    assert_eq!((checkpoint.step(), checkpoint.score()), (10, None));
    assert_eq!(checkpoint.path(), path);
    assert_eq!(fs::read(path.join("optimizer/moments.safetensors")).unwrap(), [10; 200]);
    assert_eq!(Checkpoint::open(&path).unwrap(), checkpoint);
    assert_eq!(store.best().unwrap().unwrap().step(), 9);
    let message = store.at(7).unwrap_err().to_string();
    assert!(message.contains("step 7") && message.contains("9, 10"), "{message}");
}

#[test]
fn the_last_few_and_the_best_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 2);
    let scores = [(1, Some(0.3)), (2, Some(0.8)), (3, Some(0.8)), (4, None), (5, Some(0.1))];
    for (step, score) in scores {
        save(&store, step, score);
    }
    assert_eq!(store.steps().unwrap(), [2, 4, 5]);
    save(&store, 6, Some(0.9));
    assert_eq!(store.steps().unwrap(), [5, 6]);
    assert_eq!(fs::read_dir(run.checkpoints()).unwrap().count(), 2);
    let error = store.save(7, Some(f64::NAN), weights(7, 1)).unwrap_err();
    assert!(matches!(error, Error::Range { .. }), "{error}");
}

#[test]
fn a_checkpoint_of_the_same_step_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 2);
    save(&store, 4, None);
    let path = store.save(4, None, weights(77, 5)).unwrap();
    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), [77; 5]);
    store.at(4).unwrap();
    assert_eq!(fs::read_dir(run.checkpoints()).unwrap().count(), 1);
}

#[test]
fn steps_after_the_resumed_one_are_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 9);
    (1..=5).for_each(|step| drop(save(&store, step, None)));
    store.discard_after(3).unwrap();
    assert_eq!(store.steps().unwrap(), [1, 2, 3]);
}

#[test]
fn each_kind_of_damage_is_seen_and_the_one_before_is_taken() {
    type Harm = (&'static str, fn(&Path));
    let harms: [Harm; 7] = [
        ("model.safetensors` has 99 bytes, 100 were saved", |dir| {
            let file = fs::File::options().write(true).open(dir.join("model.safetensors"));
            file.unwrap().set_len(99).unwrap();
        }),
        ("moments.safetensors` has checksum", |dir| {
            let path = dir.join("optimizer/moments.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            bytes[150] ^= 1;
            fs::write(&path, bytes).unwrap();
        }),
        ("model.safetensors`: No such file", |dir| {
            fs::remove_file(dir.join("model.safetensors")).unwrap();
        }),
        ("manifest.json`: No such file", |dir| {
            fs::remove_file(dir.join("manifest.json")).unwrap();
        }),
        ("manifest.json`: ", |dir| {
            let path = dir.join("manifest.json");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("manifest.json` has checksum", |dir| {
            let path = dir.join("manifest.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("0.25", "0.75")).unwrap();
        }),
        ("is of step 2", |dir| {
            let parent = dir.parent().unwrap();
            fs::remove_dir_all(dir).unwrap();
            fs::create_dir(dir).unwrap();
            for name in ["model.safetensors", "manifest.json"] {
                fs::copy(parent.join("step-2").join(name), dir.join(name)).unwrap();
            }
        }),
    ];
    for (expected, harm) in harms {
        let dir = tempfile::tempdir().unwrap();
        let run = new_run(dir.path());
        let store = open(&run, 3);
        (1..=3).for_each(|step| drop(save(&store, step, Some(0.25))));
        harm(&run.checkpoints().join("step-3"));
        let message = store.at(3).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("step-3"), "{message}");
        assert_eq!(latest(&store), (Some(2), 1), "{expected}");
    }
}

#[test]
fn with_every_checkpoint_damaged_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 3);
    for step in [1, 2] {
        fs::remove_file(save(&store, step, None).join("model.safetensors")).unwrap();
    }
    assert_eq!(latest(&store), (None, 2));
}

#[test]
fn a_kill_between_write_and_rename_leaves_the_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 3);
    save(&store, 1, None);
    let before = tree(&run.checkpoints());
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.save(2, None, |dir| {
            weights(2, 50)(dir)?;
            std::panic::resume_unwind(Box::new("killed"));
            #[allow(unreachable_code)]
            io::Result::Ok(())
        })
    }));
    assert!(killed.is_err());
    assert_eq!(fs::read_dir(run.checkpoints()).unwrap().count(), 2, "a partial one is left");
    assert_eq!(latest(&store), (Some(1), 0));
    fs::create_dir(run.checkpoints().join(".tmp-old-step-0-77")).unwrap();
    let store = open(&run, 3);
    assert_eq!(tree(&run.checkpoints()), before, "and removed by the next process");
    assert_eq!(fs::read_dir(run.checkpoints()).unwrap().count(), 1);
    save(&store, 2, None);
    assert_eq!(latest(&store), (Some(2), 0));
}

#[test]
fn the_caller_s_failure_is_passed_on_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 3);
    save(&store, 1, None);
    let error = store.save(2, None, |dir| {
        fs::write(dir.join("model.safetensors"), "x").unwrap();
        Err("the weights are not finite")
    });
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Checkpoint { step: 2, .. }), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the weights are not finite");
    assert_eq!(fs::read_dir(run.checkpoints()).unwrap().count(), 1);
}

/// Wraps an `io::Error` as many crates do: its text goes through, the error itself is hidden.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Wrapped(#[from] io::Error);

#[test]
fn a_full_disk_keeps_the_earlier_checkpoints() {
    let Some(disk) = opd_testkit::Mount::tmpfs("256k") else { return };
    let run = new_run(&disk.path());
    let store = open(&run, 3);
    store.save(1, Some(0.5), weights(1, 20_000)).unwrap();
    let before = tree(run.path());
    let plain = store.save(2, None, weights(2, 100_000)).unwrap_err();
    let wrapped = store.save(2, None, |dir| Ok::<_, Wrapped>(weights(2, 100_000)(dir)?));
    for error in [plain, wrapped.unwrap_err()] {
        assert!(matches!(error, Error::Full { .. }), "{error:?}");
        let message = error.to_string();
        let path = run.checkpoints().display().to_string();
        for part in [path.as_str(), "no space left", "--resume", "free some"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(tree(run.path()), before);
    }
    store.save(2, None, weights(2, 1_000)).unwrap();
    assert_eq!(latest(&store), (Some(2), 0));
}

#[test]
fn a_device_without_space_needs_no_mount_to_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = new_run(dir.path());
    let store = open(&run, 3);
    let full = store.save(1, None, |_| fs::write("/dev/full", "x"));
    assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
}

#[test]
fn a_disk_that_turned_read_only_is_named() {
    let Some(disk) = opd_testkit::Mount::tmpfs("256k") else { return };
    let (path, message) = {
        let run = new_run(&disk.path());
        let store = open(&run, 3);
        save(&store, 1, None);
        let path = run.path().to_owned();
        drop(run);
        disk.make_read_only();
        (path, store.save(2, None, weights(2, 10)).unwrap_err().to_string())
    };
    assert!(message.contains("read-only"), "{message}");
    assert_eq!(Checkpoint::open(path.join("checkpoints/step-1")).unwrap().step(), 1);
}
