use std::{path::Path, thread, time::Duration};

use candle_core::{DType, Device};
use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_http::ApiKey;
use opd_teacher::InProcessTeacher;
use opd_testkit::numbers;

use crate::server::{Server, settings};

pub(crate) type Pair = (Vec<u32>, Vec<u32>);

/// `n` prompts with four responses each, of ids below `vocab`, up to 50 tokens long.
pub(crate) fn groups(n: u64, vocab: usize) -> Vec<Pair> {
    let half = vocab as f64 / 2.0;
    let ids = |n: usize, seed: u64| -> Vec<u32> {
        numbers(n, seed, half).into_iter().map(|x| (x + half) as u32).collect()
    };
    let pair = |i: u64| {
        let group = i / 4;
        (ids(1 + (group % 25) as usize, group), ids(1 + (i * 7 % 24) as usize, 1000 + i))
    };
    (0..4 * n).map(pair).collect()
}

pub(crate) fn request<'a>(pairs: &'a [Pair], wanted: Wanted<'a>) -> ScoreRequest<'a> {
    let sequences = pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response });
    ScoreRequest { sequences: sequences.collect(), temperature: 1.0, wanted, sources: &[] }
}

pub(crate) fn in_process(model: &Path) -> InProcessTeacher {
    InProcessTeacher::load(model, DType::F32, &Device::Cpu).unwrap()
}

/// Within 1e-4 nats.
pub(crate) fn assert_close(got: &[Option<f32>], want: &[Option<f32>], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let mut worst = 0.0f32;
    for (got, want) in got.iter().zip(want) {
        let (got, want) = (got.unwrap(), want.unwrap());
        let off = (got - want).abs();
        assert!(off <= 1e-4, "{what}: {got}, expected {want}");
        worst = worst.max(off);
    }
    eprintln!("{what}: {} scores, largest difference {worst:e}", got.len());
}

fn values(scores: &TeacherScores) -> &[Option<f32>] {
    scores.logprobs.values()
}

/// The message of an error with those of its sources.
pub(crate) fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let next = std::iter::successors(Some(error), |error| error.source());
    next.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn agree(teacher: &dyn Teacher, local: &dyn Teacher, pairs: &[Pair], what: &str) {
    let want = local.score(&request(pairs, Wanted::Sampled)).unwrap();
    let scores = teacher.score(&request(pairs, Wanted::Sampled)).unwrap();
    assert_close(values(&scores), values(&want), what);
}

pub(crate) fn a_wrong_key_is_refused(server: &Server, vocab: usize) {
    let mut wrong = settings(vocab);
    wrong.http.key = ApiKey::new("another-key");
    let refused = (server.kind.connect)(&server.url(), wrong).and_then(|(teacher, _)| {
        teacher
            .score(&request(&groups(1, vocab), Wanted::Sampled))
            .map_err(opd_teacher::Error::from)
    });
    let refused = said(&refused.map(drop).unwrap_err());
    assert!(refused.contains("401") && !refused.contains("another-key"), "{refused}");
}

/// Groups, and the likeliest ids.
pub(crate) fn agrees_with_in_process(server: &Server, model: &Path) {
    let local = in_process(model);
    let vocab = local.model().config().vocab_size;
    let (teacher, _) = (server.kind.connect)(&server.url(), settings(vocab)).unwrap();
    let pairs = groups(30, vocab);
    let name = model.file_name().unwrap().to_string_lossy();
    agree(&*teacher, &local, &pairs, &format!("{name}, sampled tokens"));
    let top = |teacher: &dyn Teacher| {
        teacher.score(&request(&pairs[..8], Wanted::TopK(4))).unwrap().top.unwrap()
    };
    let (got, want) = (top(&*teacher), top(&local));
    assert_eq!(got.ids, want.ids);
    let some = |values: &[f32]| -> Vec<Option<f32>> { values.iter().copied().map(Some).collect() };
    let what = format!("{name}, likeliest ids");
    assert_close(&some(&got.logprobs), &some(&want.logprobs), &what);
}

/// The longest sequence is scored; what would be refused, or kill the server, is never sent.
pub(crate) fn limits_are_kept(server: &Server, vocab: usize, longest: usize) {
    let (teacher, limits) = (server.kind.connect)(&server.url(), settings(vocab)).unwrap();
    assert_eq!(limits.longest, Some(longest));
    let just_fits = vec![(vec![1; longest - 1], vec![2])];
    let scores = teacher.score(&request(&just_fits, Wanted::Sampled)).unwrap();
    assert_eq!(scores.n_missing(), 0);
    let too_long = vec![(vec![1; longest], vec![2])];
    let refused = said(&teacher.score(&request(&too_long, Wanted::Sampled)).unwrap_err());
    assert!(refused.contains(&longest.to_string()), "{refused}");
    let outside = vec![(vec![3], vec![vocab as u32])];
    let refused = said(&teacher.score(&request(&outside, Wanted::Sampled)).unwrap_err());
    assert!(refused.contains(&vocab.to_string()), "{refused}");
    assert!(server.healthy(), "{} has died of a bad request", server.kind.name);
}

/// Killed and started again while it scores: nothing is lost, nothing doubled.
pub(crate) fn an_outage_loses_nothing(server: &mut Server, model: &Path) {
    let local = in_process(model);
    let vocab = local.model().config().vocab_size;
    let (teacher, _) = (server.kind.connect)(&server.url(), settings(vocab)).unwrap();
    let many = groups(400, vocab);
    let whole = local.score(&request(&many, Wanted::Sampled)).unwrap();
    thread::scope(|scope| {
        let scoring = scope.spawn(|| teacher.score(&request(&many, Wanted::Sampled)).unwrap());
        thread::sleep(Duration::from_millis(1000));
        let under_way = !scoring.is_finished();
        server.kill();
        server.start_again();
        let scores = scoring.join().unwrap();
        assert!(under_way, "the batch was done before the server was killed");
        assert_eq!(scores.n_missing(), 0);
        assert_close(values(&scores), values(&whole), "killed and started again in mid-batch");
    });
}
