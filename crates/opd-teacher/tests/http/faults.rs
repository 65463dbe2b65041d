use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use opd_batch::{Teacher, TeacherScores, Wanted};
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{Fault, HttpRequest, HttpServer, Reply};

use crate::{
    Pair, bits, groups,
    oracle::{self, is_scoring},
    quick, request,
};

fn spoiled(fault: Fault, request: &HttpRequest) -> Reply {
    fault.spoil(&oracle::answer(request, "v").unwrap())
}

/// About three requests of ten go wrong, each in one of all ways; with the number of requests.
pub(crate) fn faulty() -> (HttpServer, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    let server = HttpServer::start(move |request| {
        if !is_scoring(request) {
            return oracle::reply(request, "v");
        }
        match Fault::in_three_of_ten(counter.fetch_add(1, Ordering::SeqCst)) {
            Some(fault) => spoiled(fault, request),
            None => oracle::reply(request, "v"),
        }
    });
    (server, count)
}

/// What a fault-free server says of the likeliest ids; vLLM lists the sent one, too, and the
/// oracle's may be likelier than those that it calls so.
fn likeliest(pairs: &[Pair], k: usize, with_sent: bool) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    for (prompt, response) in pairs {
        let ids = [prompt.as_slice(), response].concat();
        for t in prompt.len()..ids.len() {
            let mut top = oracle::top(&ids[..t], k);
            if with_sent && top.iter().all(|(id, _)| *id != ids[t]) {
                top.push((ids[t], oracle::logprob(&ids[..t], ids[t])));
                top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                top.truncate(k);
            }
            all.extend(top.into_iter().map(|(id, logprob)| (id, logprob.to_bits())));
        }
    }
    all
}

fn top_bits(scores: &TeacherScores) -> Vec<(u32, u32)> {
    let top = scores.top.as_ref().unwrap();
    top.ids.iter().copied().zip(top.logprobs.iter().map(|logprob| logprob.to_bits())).collect()
}

fn both(server: &HttpServer, settings: &RemoteSettings) -> [Box<dyn Teacher>; 2] {
    [
        Box::new(SglangTeacher::connect(&[server.url()], settings.clone()).unwrap()),
        Box::new(VllmTeacher::connect(&[server.url()], settings.clone()).unwrap()),
    ]
}

#[test]
fn faults_change_no_score() {
    let pairs = groups(250);
    assert_eq!(pairs.len(), 2000);
    let expected = oracle::bits(&pairs);
    for per_request in [1, 8] {
        let settings = RemoteSettings { sequences_per_request: per_request, ..quick() };
        let (server, _) = faulty();
        for teacher in both(&server, &settings) {
            let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
            assert_eq!(scores.n_missing(), 0);
            assert!(bits(&scores) == expected, "{} with {per_request}", teacher.name());
        }
    }
}

#[test]
fn faults_change_no_likeliest_id() {
    let pairs = groups(50);
    let (server, _) = faulty();
    let settings = RemoteSettings { sequences_per_request: 2, ..quick() };
    for (teacher, vllm) in both(&server, &settings).into_iter().zip([false, true]) {
        let scores = teacher.score(&request(&pairs, 1.0, Wanted::TopK(4))).unwrap();
        assert_eq!(scores.n_missing(), 0);
        assert!(bits(&scores) == oracle::bits(&pairs), "{}", teacher.name());
        assert!(top_bits(&scores) == likeliest(&pairs, 4, vllm), "{}", teacher.name());
    }
}

/// Each kind alone, so that none of them hides behind the others.
#[test]
fn every_fault_is_noticed() {
    for fault in Fault::ALL {
        let count = AtomicU64::new(0);
        let server = HttpServer::start(move |request| {
            let spoil =
                is_scoring(request) && count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            if spoil { spoiled(fault, request) } else { oracle::reply(request, "v") }
        });
        let pairs = groups(2);
        for (teacher, vllm) in both(&server, &quick()).into_iter().zip([false, true]) {
            for wanted in [Wanted::Sampled, Wanted::TopK(3)] {
                let scores = teacher.score(&request(&pairs, 1.0, wanted)).unwrap();
                let what = format!("{fault:?}, {}, {wanted}", teacher.name());
                assert_eq!(bits(&scores), oracle::bits(&pairs), "{what}");
                if let Wanted::TopK(k) = wanted {
                    assert!(top_bits(&scores) == likeliest(&pairs, k, vllm), "{what}");
                }
            }
        }
    }
}
