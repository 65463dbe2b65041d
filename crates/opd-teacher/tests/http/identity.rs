use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use opd_batch::{Teacher, Wanted};
use opd_teacher::{Error, RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpServer, Reply};
use serde_json::Value;

use crate::{
    bits, groups,
    oracle::{self, is_scoring},
    quick, request,
};

/// Weights change after so many scoring requests; new weights shift every log-prob by -1.
fn updated(after: usize) -> (HttpServer, Arc<AtomicUsize>) {
    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let server = HttpServer::start(move |request| {
        let n = match is_scoring(request) {
            true => counter.fetch_add(1, Ordering::SeqCst),
            false => counter.load(Ordering::SeqCst),
        };
        let new = n >= after;
        let Some(mut answer) = oracle::answer(request, if new { "step-7" } else { "default" })
        else {
            return Reply::status(404, "{}");
        };
        if new {
            shift(&mut answer);
        }
        Reply::json(answer.to_string())
    });
    (server, served)
}

fn shift(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(shift),
        Value::Object(map) => map.values_mut().for_each(shift),
        Value::Number(number) if number.is_f64() => {
            *value = ((number.as_f64().unwrap() as f32) - 1.0).into();
        }
        _ => {}
    }
}

#[test]
fn new_weights_are_a_new_identity() {
    let (server, _) = updated(1);
    let sglang = SglangTeacher::connect(&[server.url()], quick()).unwrap();
    let vllm = VllmTeacher::connect(&[server.url()], quick()).unwrap();
    let teachers: [&dyn Teacher; 2] = [&sglang, &vllm];
    let before = teachers.map(|teacher| teacher.identity().unwrap());
    assert_eq!(before[0], "sglang model `/m`, weight version `default`");
    assert_eq!(before[1], "vllm model `teacher=/m`, weight version `default`");
    sglang.score(&request(&groups(1), 1.0, Wanted::Sampled)).unwrap();
    let after = teachers.map(|teacher| teacher.identity().unwrap());
    assert!(after.iter().all(|identity| identity.ends_with("weight version `step-7`")));
}

#[test]
fn a_batch_is_never_of_mixed_weights() {
    for after in [5, 40, 75] {
        let (server, served) = updated(after);
        let settings = RemoteSettings { sequences_per_request: 1, ..quick() };
        let teachers: [Box<dyn Teacher>; 2] = [
            Box::new(SglangTeacher::connect(&[server.url()], settings.clone()).unwrap()),
            Box::new(VllmTeacher::connect(&[server.url()], settings).unwrap()),
        ];
        for teacher in teachers {
            served.store(0, Ordering::SeqCst);
            let pairs = groups(10);
            let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
            let new: Vec<Option<u32>> = oracle::bits(&pairs)
                .into_iter()
                .map(|bits| Some((f32::from_bits(bits.unwrap()) - 1.0).to_bits()))
                .collect();
            assert_eq!(bits(&scores), new, "{} after {after}", teacher.name());
        }
    }
}

#[test]
fn servers_of_one_teacher_must_agree() {
    let serve = |version: &'static str| HttpServer::start(move |r| oracle::reply(r, version));
    let (first, second) = (serve("1"), serve("2"));
    let urls = [first.url(), second.url()];
    let error = SglangTeacher::connect(&urls, quick()).unwrap_err();
    assert!(matches!(error, Error::Endpoints { .. }));
    let said = error.to_string();
    assert!(said.contains("version `1`") && said.contains("version `2`"), "{said}");
}

#[test]
fn what_is_no_server_of_the_kind_is_told_at_once() {
    let other = HttpServer::start(|_| Reply::status(404, "nothing here"));
    let error = SglangTeacher::connect(&[other.url()], quick()).unwrap_err().to_string();
    assert!(error.contains("it is no sglang server"), "{error}");
    let error = VllmTeacher::connect(&[other.url()], quick()).unwrap_err().to_string();
    assert!(error.contains("it is no vllm server"), "{error}");
    let mut gone = HttpServer::start(|_| Reply::Drop);
    gone.stop();
    let error = SglangTeacher::connect(&[gone.url()], RemoteSettings::default()).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    let locked = HttpServer::start(|_| Reply::status(401, r#"{"error": "Unauthorized"}"#));
    let error = VllmTeacher::connect(&[locked.url()], quick()).unwrap_err().to_string();
    assert!(error.contains("status 401: Unauthorized; name the key's"), "{error}");
}
