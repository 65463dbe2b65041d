//! A journal whose process is killed while it writes.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use opd_batch::{Teacher, Wanted};
use opd_teacher::{Journal, JournaledTeacher, ReplayTeacher};

use crate::{Pair, bits, journal::Counting, oracle, request};

/// Where the child writes.
const PLACE: &str = "OPD_TEST_JOURNAL";

/// About 30 batches: older ones make room.
const LIMIT: u64 = 200_000;

/// Sequences of a batch.
const BATCH: u32 = 20;

fn batch(i: u32) -> Vec<Pair> {
    (0..BATCH).map(|j| (vec![i, j], (0..30 + j).collect())).collect()
}

fn open(path: &Path) -> Arc<Journal> {
    Arc::new(Journal::open(path, LIMIT).unwrap())
}

/// Writes batches and says which, until it is killed.
#[test]
#[ignore = "the process that is killed"]
fn child() {
    let Some(path) = env::var_os(PLACE) else { return };
    let teacher = JournaledTeacher::new(Counting::new("a"), open(Path::new(&path)));
    let first: u32 = env::var("OPD_TEST_FIRST").unwrap().parse().unwrap();
    for i in first.. {
        teacher.score(&request(&batch(i), 1.0, Wanted::Sampled)).unwrap();
        eprintln!("written {i}");
    }
}

#[test]
fn what_was_written_before_a_kill_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("killed.redb");
    let mut first = 0;
    for round in 0..12u32 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "journal_killed::child", "--ignored", "--nocapture"])
            .env(PLACE, &path)
            .env("OPD_TEST_FIRST", first.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let number =
            |line: std::io::Result<String>| line.unwrap().strip_prefix("written ")?.parse().ok();
        let mut written = lines.filter_map(number);
        // After some batches, at any moment of the next.
        let mut last: u32 = written.by_ref().nth(10).expect("the child has ended");
        sleep(Duration::from_micros(u64::from(round) * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        last = written.last().unwrap_or(last);

        let journal = open(&path);
        let inner = Counting::new("a");
        let teacher = JournaledTeacher::new(inner.clone(), journal.clone());
        let newest = batch(last);
        let scores = teacher.score(&request(&newest, 1.0, Wanted::Sampled)).unwrap();
        assert_eq!(inner.take(), 0, "batch {last} was written and is lost");
        assert!(bits(&scores) == oracle::bits(&newest));
        // The next batch is there as a whole or not at all.
        let next = batch(last + 1);
        let scores = teacher.score(&request(&next, 1.0, Wanted::Sampled)).unwrap();
        let scored = inner.take();
        assert!(scored == 0 || scored == BATCH as usize, "{scored} of {BATCH} were not there");
        assert!(bits(&scores) == oracle::bits(&next));
        // The older ones are whole, up to those that made room.
        let entries = journal.n_entries().unwrap();
        let replay = ReplayTeacher::new(journal, Some("a".into())).unwrap();
        let held = (0..=last).rev().map_while(|i| {
            let pairs = batch(i);
            let scores = replay.score(&request(&pairs, 1.0, Wanted::Sampled)).ok()?;
            assert!(bits(&scores) == oracle::bits(&pairs), "batch {i}");
            Some(i)
        });
        let held = held.count() as u64 * u64::from(BATCH);
        assert!(
            held > 10 * u64::from(BATCH) && held + 2 * u64::from(BATCH) >= entries,
            "{held} of {entries}"
        );
        first = last + 2;
    }
}
