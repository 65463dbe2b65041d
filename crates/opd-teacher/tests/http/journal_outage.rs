//! A journal between a run and a teacher that is away, or whose weights do not stay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use opd_batch::{Error, ScoreRequest, Teacher, TeacherScores, Wanted};
use opd_http::Retry;
use opd_teacher::{Journal, JournaledTeacher, SglangTeacher, VllmTeacher};
use opd_testkit::http::HttpServer;

use crate::{bits, groups, journal::Counting, oracle, quick, request};

fn journal(dir: &tempfile::TempDir, name: &str) -> Arc<Journal> {
    Arc::new(Journal::open(dir.path().join(name), 1 << 30).unwrap())
}

#[test]
fn scores_that_are_held_outlive_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = HttpServer::start(|request| oracle::reply(request, "v"));
    let mut settings = quick();
    settings.http.retry = Retry { patience: Duration::from_millis(100), ..settings.http.retry };
    let sglang = SglangTeacher::connect(&[server.url()], settings.clone()).unwrap();
    let vllm = VllmTeacher::connect(&[server.url()], settings).unwrap();
    let teachers: [(&str, Box<dyn Teacher>); 2] =
        [("sglang", Box::new(sglang)), ("vllm", Box::new(vllm))];
    let pairs = groups(4);
    let journaled = teachers.map(|(name, teacher)| {
        let teacher = JournaledTeacher::new(teacher, journal(&dir, name));
        let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
        assert!(bits(&scores) == oracle::bits(&pairs));
        teacher
    });
    server.stop();
    let more = [pairs.clone(), vec![(vec![9], vec![8, 7])]].concat();
    for teacher in &journaled {
        let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
        assert!(bits(&scores) == oracle::bits(&pairs), "{}", teacher.name());
        let scores = teacher.score(&request(&more, 1.0, Wanted::Sampled)).unwrap();
        assert_eq!(scores.n_missing(), 2, "{}: only those of the new sequence", teacher.name());
    }
    server.resume();
    for teacher in &journaled {
        // A circuit that is open looks only now and then whether the server is back.
        let back = (0..500).any(|_| {
            sleep(Duration::from_millis(10));
            let scores = teacher.score(&request(&more, 1.0, Wanted::Sampled)).unwrap();
            bits(&scores) == oracle::bits(&more)
        });
        assert!(back, "{}", teacher.name());
    }
}

#[test]
fn a_server_that_was_never_seen_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = HttpServer::start(|request| oracle::reply(request, "v"));
    let mut settings = quick();
    settings.http.retry = Retry { patience: Duration::from_millis(100), ..settings.http.retry };
    let teacher = SglangTeacher::connect(&[server.url()], settings).unwrap();
    let teacher = JournaledTeacher::new(teacher, journal(&dir, "j"));
    server.stop();
    let pairs = [(vec![1], vec![2])];
    let error = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap_err();
    assert!(matches!(error, Error::Teacher { .. }), "{error}");
}

/// Its weights change `changes` times, once with each batch that it scores.
struct Restless {
    scores: Counting,
    scored: AtomicUsize,
    changes: usize,
}

impl Teacher for Restless {
    fn name(&self) -> &str {
        "restless"
    }

    fn identity(&self) -> opd_batch::Result<String> {
        Ok(self.scored.load(Ordering::SeqCst).min(self.changes).to_string())
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        self.scored.fetch_add(1, Ordering::SeqCst);
        self.scores.score(request)
    }
}

#[test]
fn weights_that_keep_changing_end_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = groups(1);
    let score = |changes: usize| {
        let held = journal(&dir, &changes.to_string());
        let scored = AtomicUsize::new(0);
        let restless = Restless { scores: Counting::new(""), scored, changes };
        let scores = JournaledTeacher::new(restless, held.clone()).score(&request(
            &pairs,
            1.0,
            Wanted::Sampled,
        ));
        (scores, held.identities().unwrap())
    };
    let (scores, identities) = score(3);
    assert!(bits(&scores.unwrap()) == oracle::bits(&pairs));
    assert_eq!(identities, ["3"], "only scores of the last weights are kept");
    let (scores, identities) = score(usize::MAX);
    let text = format!("{:#}", anyhow::Error::from(scores.unwrap_err()));
    assert!(text.contains("changed during each of 4 attempts to score a batch"), "{text}");
    assert!(identities.is_empty(), "{identities:?}");
}
