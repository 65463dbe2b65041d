use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use opd_batch::{Ragged, ScoreRequest, Teacher, TeacherScores, TopLogprobs, Wanted};
use opd_teacher::{Journal, JournaledTeacher, ReplayTeacher};

use crate::{Pair, bits, groups, oracle, request};

/// Scores as the oracle does and counts the sequences.
#[derive(Clone)]
pub(crate) struct Counting {
    identity: String,
    scored: Arc<AtomicUsize>,
    /// Rows of this length have no scores.
    gap: usize,
}

impl Counting {
    pub(crate) fn new(identity: &str) -> Self {
        Self { identity: identity.into(), scored: Arc::default(), gap: usize::MAX }
    }

    /// Sequences scored since the last call.
    pub(crate) fn take(&self) -> usize {
        self.scored.swap(0, Ordering::SeqCst)
    }
}

impl Teacher for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn identity(&self) -> opd_batch::Result<String> {
        Ok(self.identity.clone())
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        self.scored.fetch_add(request.sequences.len(), Ordering::SeqCst);
        let (mut rows, mut top) = (Vec::new(), Vec::new());
        for sequence in &request.sequences {
            let ids = [sequence.prompt, sequence.response].concat();
            let logprob = |t: usize| {
                let known = sequence.response.len() != self.gap;
                known.then(|| oracle::logprob(&ids[..t], ids[t]))
            };
            rows.push((sequence.prompt.len()..ids.len()).map(logprob).collect());
            for t in sequence.prompt.len()..ids.len() {
                top.extend(oracle::top(&ids[..t], oracle::k_of(request.wanted)));
            }
        }
        let k = oracle::k_of(request.wanted);
        let (ids, logprobs) = top.into_iter().unzip();
        let top = (k > 0).then_some(TopLogprobs { k, ids, logprobs });
        Ok(TeacherScores { logprobs: Ragged::from_rows(rows), top, spans: None })
    }
}

fn journal(dir: &tempfile::TempDir) -> Arc<Journal> {
    Arc::new(Journal::open(dir.path().join("scores.redb"), 1 << 30).unwrap())
}

#[test]
fn what_was_scored_is_not_scored_again() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Counting::new("a");
    let mut pairs = groups(6);
    let n = pairs.len();
    for wanted in [Wanted::Sampled, Wanted::TopK(3)] {
        let teacher = JournaledTeacher::new(inner.clone(), journal(&dir));
        let first = teacher.score(&request(&pairs, 1.0, wanted)).unwrap();
        assert_eq!(inner.take(), n);
        assert_eq!(first, inner.score(&request(&pairs, 1.0, wanted)).unwrap());
        inner.take();
        drop(teacher);
        let teacher = JournaledTeacher::new(inner.clone(), journal(&dir));
        assert_eq!(teacher.score(&request(&pairs, 1.0, wanted)).unwrap(), first);
        assert_eq!(inner.take(), 0, "all of it is on disk");
    }
    let teacher = JournaledTeacher::new(inner.clone(), journal(&dir));
    pairs.insert(3, (vec![1], vec![2, 3]));
    pairs.reverse();
    let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(inner.take(), 1, "only the new one");
    assert_eq!(bits(&scores), oracle::bits(&pairs));
}

#[test]
fn everything_that_scores_depend_on_is_in_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Counting::new("a");
    let teacher = JournaledTeacher::new(inner.clone(), journal(&dir));
    let pair = |prompt: &[u32], response: &[u32]| [(prompt.to_vec(), response.to_vec())];
    let same = pair(&[1, 2], &[3, 4]);
    let requests: [([Pair; 1], f32, Wanted<'_>); 6] = [
        (same.clone(), 1.0, Wanted::Sampled),
        (same.clone(), 0.5, Wanted::Sampled),
        (pair(&[1], &[2, 3, 4]), 1.0, Wanted::Sampled),
        (pair(&[1, 2], &[3, 5]), 1.0, Wanted::Sampled),
        (same.clone(), 1.0, Wanted::TopK(2)),
        (same.clone(), 1.0, Wanted::TopK(3)),
    ];
    for (pairs, temperature, wanted) in &requests {
        for expected in [1, 0] {
            teacher.score(&request(pairs, *temperature, *wanted)).unwrap();
            assert_eq!(inner.take(), expected, "{pairs:?} {temperature} {wanted:?}");
        }
    }
    drop(teacher);
    let other = Counting { identity: "b".into(), ..inner.clone() };
    let teacher = JournaledTeacher::new(other, journal(&dir));
    teacher.score(&request(&same, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(inner.take(), 1, "another version of the weights");
}

#[test]
fn a_gap_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Counting { gap: 2, ..Counting::new("a") };
    let teacher = JournaledTeacher::new(inner.clone(), journal(&dir));
    let pairs = [(vec![1], vec![2, 3]), (vec![1], vec![2, 3, 4])];
    for expected in [2, 1] {
        let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
        assert_eq!((scores.n_missing(), inner.take()), (2, expected));
    }
}

#[test]
fn a_journal_stands_in_for_its_teacher() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = groups(3);
    let ask = request(&pairs, 1.0, Wanted::Sampled);
    let error = ReplayTeacher::new(journal(&dir), None).unwrap_err().to_string();
    assert!(error.ends_with("name a teacher; it holds no scores"), "{error}");
    let teacher = JournaledTeacher::new(Counting::new("a"), journal(&dir));
    let first = teacher.score(&ask).unwrap();
    drop(teacher);
    let replay = ReplayTeacher::new(journal(&dir), None).unwrap();
    assert_eq!(replay.score(&ask).unwrap(), first);
    let more = [pairs.clone(), vec![(vec![9], vec![9])]].concat();
    let error = replay.score(&request(&more, 1.0, Wanted::Sampled)).unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("1 of 25 sequences have no score by `a`, the first in row 24"), "{text}");
    drop(replay);
    JournaledTeacher::new(Counting::new("b"), journal(&dir)).score(&ask).unwrap();
    let error = ReplayTeacher::new(journal(&dir), None).unwrap_err().to_string();
    assert!(error.ends_with("it holds scores by: a; b"), "{error}");
    assert!(ReplayTeacher::new(journal(&dir), Some("b".into())).is_ok());
}

#[test]
fn the_oldest_scores_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.redb");
    let limit = 20_000;
    let journal = Arc::new(Journal::open(&path, limit).unwrap());
    let inner = Counting::new("a");
    let teacher = JournaledTeacher::new(inner.clone(), journal.clone());
    for i in 0..60 {
        let pairs: Vec<Pair> = (0..10).map(|j| (vec![i, j], vec![1; 20])).collect();
        teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
        assert!(journal.n_entries().unwrap() <= limit / (20 * 4 + 8 + 128));
        assert!(length(&path) <= 4 * limit + (1 << 20), "{} bytes", length(&path));
    }
    let newest = [(vec![59, 9], vec![1; 20])];
    let oldest = [(vec![0, 0], vec![1; 20])];
    inner.take();
    teacher.score(&request(&newest, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(inner.take(), 0);
    teacher.score(&request(&oldest, 1.0, Wanted::Sampled)).unwrap();
    assert_eq!(inner.take(), 1);
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_file_that_is_too_large_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.redb");
    let pair = |i: u32| (vec![i], vec![1; 500]);
    let many: Vec<Pair> = (0..2000).map(pair).collect();
    let score = |limit: u64, pairs: &[Pair]| {
        let journal = Arc::new(Journal::open(&path, limit).unwrap());
        let inner = Counting::new("a");
        let teacher = JournaledTeacher::new(inner.clone(), journal);
        let scores = teacher.score(&request(pairs, 1.0, Wanted::Sampled)).unwrap();
        assert_eq!(bits(&scores), oracle::bits(pairs));
        inner.take()
    };
    assert_eq!(score(1 << 30, &many), 2000);
    assert!(length(&path) > 4 << 20);
    let limit = 50_000;
    assert_eq!(score(limit, &[pair(2000)]), 1);
    assert!(length(&path) <= 4 * limit + (1 << 20), "{} bytes", length(&path));
    assert_eq!(score(limit, &[pair(1999), pair(2000)]), 0, "the newest are still there");
}

#[test]
fn an_identity_goes_with_the_last_of_its_scores() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path().join("j.redb"), 20_000).unwrap());
    let score = |identity: &str, from: u32, n: u32| {
        let pairs: Vec<Pair> = (from..from + n).map(|i| (vec![i], vec![1; 20])).collect();
        let teacher = JournaledTeacher::new(Counting::new(identity), journal.clone());
        teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
        journal.identities().unwrap()
    };
    // 92 entries of 216 bytes fit.
    assert_eq!(score("a", 0, 10), ["a"]);
    assert_eq!(score("b", 0, 80), ["a", "b"]);
    assert_eq!(score("b", 80, 11), ["a", "b"], "one score of a is left");
    assert_eq!(score("b", 91, 1), ["b"]);
    assert_eq!(score("c", 0, 0), ["b"], "a teacher without scores");
    assert_eq!(score("c", 0, 500), ["c"]);
}

#[test]
fn faults_of_the_file_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let held = journal(&dir);
    let error = Journal::open(held.path(), 1).unwrap_err().to_string();
    assert!(error.contains("another process has it open"), "{error}");
    let path = dir.path().join("no.redb");
    std::fs::write(&path, "not a store").unwrap();
    let error = Journal::open(&path, 1).unwrap_err().to_string();
    assert!(error.contains("no.redb: cannot be opened"), "{error}");
    let error = Journal::open(dir.path().join("no/dir"), 1).unwrap_err().to_string();
    assert!(error.contains("cannot be opened"), "{error}");
}
