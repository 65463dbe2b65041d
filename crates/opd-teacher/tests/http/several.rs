use std::sync::Arc;

use opd_batch::{Ragged, ScoreRequest, Source, Teacher, TeacherScores, TopLogprobs, Wanted};
use opd_teacher::{EnsembleTeacher, Error, RoutedTeacher};

use crate::Pair;

/// Every token has this log-prob; ids are told to be this likely, too.
struct Constant(f32, String);

impl Teacher for Constant {
    fn name(&self) -> &str {
        &self.1
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        let value = Some(self.0).filter(|value| value.is_finite());
        let logprobs = Ragged::filled(request.rows(), value);
        let top = match request.wanted {
            Wanted::Ids { k, ids } => {
                let logprobs = vec![self.0; ids.len()];
                Some(TopLogprobs { k, ids: ids.to_vec(), logprobs })
            }
            _ => None,
        };
        Ok(TeacherScores { logprobs, top, spans: None })
    }
}

fn constant(logprob: f32) -> Arc<dyn Teacher> {
    Arc::new(Constant(logprob, format!("t{logprob}")))
}

fn sources(names: &[&str]) -> Vec<Source> {
    names.iter().map(Source::new).collect()
}

fn ask<'a>(pairs: &'a [Pair], sources: &'a [Source], wanted: Wanted<'a>) -> ScoreRequest<'a> {
    ScoreRequest { sources, ..crate::request(pairs, 1.0, wanted) }
}

fn pairs() -> Vec<Pair> {
    [1, 2, 0, 3].map(|n| (vec![1], vec![7; n])).to_vec()
}

#[test]
fn prompts_go_to_the_teacher_of_their_source() {
    let routes = vec![
        (constant(-1.0), sources(&["math"])),
        (constant(-2.0), sources(&["code", "proofs"])),
        (constant(-3.0), Vec::new()),
    ];
    let routed = RoutedTeacher::new(routes).unwrap();
    assert_eq!(routed.name(), "t-1 + t-2 + t-3");
    let (pairs, from) = (pairs(), sources(&["proofs", "math", "math", "chat"]));
    let scores = routed.score(&ask(&pairs, &from, Wanted::Sampled)).unwrap();
    let expected = [-2.0, -1.0, -1.0, -3.0, -3.0, -3.0].map(Some);
    assert_eq!(scores.logprobs.values(), expected);
    let ids = [10, 11, 12, 13, 14, 15];
    let scores = routed.score(&ask(&pairs, &from, Wanted::Ids { k: 1, ids: &ids })).unwrap();
    let top = scores.top.unwrap();
    assert_eq!(top.ids, ids);
    assert_eq!(top.logprobs, [-2.0, -1.0, -1.0, -3.0, -3.0, -3.0]);
}

#[test]
fn routes_that_conflict_or_lack_are_errors() {
    let a = || (constant(-1.0), sources(&["math"]));
    let routed = RoutedTeacher::new(vec![a()]).unwrap();
    let (pairs, from) = (pairs(), sources(&["math", "math", "math", "code"]));
    let error = routed.score(&ask(&pairs, &from, Wanted::Sampled)).unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("no teacher is for prompts of source `code`"), "{text}");
    assert!(text.contains("there are teachers for `math`"), "{text}");
    assert!(matches!(routed.route(&Source::new("x")), Err(Error::UnknownSource { .. })));
    let error = RoutedTeacher::new(vec![a(), a()]).unwrap_err().to_string();
    assert!(error.contains("both for prompts of source `math`"), "{error}");
    let rest = || (constant(-1.0), Vec::new());
    let error = RoutedTeacher::new(vec![rest(), rest()]).unwrap_err().to_string();
    assert!(error.contains("both for prompts that no tag names"), "{error}");
    assert!(RoutedTeacher::new(Vec::new()).is_err());
}

#[test]
fn an_ensemble_is_the_mean_of_probabilities() {
    let (p, q) = (0.5f64, 0.02f64);
    let members = vec![(3.0, constant(p.ln() as f32)), (1.0, constant(q.ln() as f32))];
    let ensemble = EnsembleTeacher::new(members).unwrap();
    let pairs = pairs();
    let ids = [1, 2, 3, 4, 5, 6];
    let scores = ensemble.score(&ask(&pairs, &[], Wanted::Ids { k: 1, ids: &ids })).unwrap();
    let expected = (0.75 * p + 0.25 * q).ln();
    assert_eq!(scores.logprobs.values().len(), 6);
    for got in scores.logprobs.values().iter().flatten().chain(&scores.top.unwrap().logprobs) {
        assert!((f64::from(*got) - expected).abs() < 1e-6, "{got} {expected}");
    }
}

#[test]
fn an_ensemble_of_one_is_its_member_and_far_values_do_not_underflow() {
    let pairs = pairs();
    for logprob in [-0.0, -1e-7, -5.25, -800.0, -3e4] {
        let one = EnsembleTeacher::new(vec![(0.25, constant(logprob))]).unwrap();
        let scores = one.score(&ask(&pairs, &[], Wanted::Sampled)).unwrap();
        assert!(scores.logprobs.values().iter().all(|&got| got == Some(logprob)));
    }
}

#[test]
fn an_ensemble_misses_what_a_member_misses_and_refuses_what_it_cannot() {
    let members = vec![(1.0, constant(-1.0)), (1.0, constant(f32::NAN))];
    let ensemble = EnsembleTeacher::new(members).unwrap();
    let pairs = pairs();
    let scores = ensemble.score(&ask(&pairs, &[], Wanted::Sampled)).unwrap();
    assert_eq!(scores.n_missing(), 6);
    let error = ensemble.score(&ask(&pairs, &[], Wanted::TopK(3))).unwrap_err().to_string();
    assert!(error.contains("cannot give the 3 likeliest ids"), "{error}");
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = EnsembleTeacher::new(vec![(weight, constant(-1.0))]).unwrap_err();
        assert!(error.to_string().contains("must be above 0"), "{error}");
    }
    assert!(EnsembleTeacher::new(Vec::new()).is_err());
}
