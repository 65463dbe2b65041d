//! Recorded descriptions and states of health, where the client asks for them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use opd_batch::{Teacher, Wanted};
use opd_teacher::{Limits, Result, SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpServer, Reply};

use crate::{
    bits, oracle,
    oracle::is_scoring,
    quick,
    recorded::{Exchange, Role, bytes, impatient, message, of_role},
    request,
};

/// Answers descriptions by the record: by `exchange` at its own path, else by the first good one.
fn described(kind: &'static str, exchange: &Exchange) -> HttpServer {
    let good = of_role(kind, Role::Description).into_iter().filter(|e| e.status == 200);
    let good: Vec<(String, Vec<u8>)> = good.map(|e| (e.path.clone(), bytes(&e.response))).collect();
    let (path, status, body) = (exchange.path.clone(), exchange.status, bytes(&exchange.response));
    HttpServer::start(move |request| match request.path.as_str() {
        asked if asked == path => Reply::status(status, body.clone()),
        // The older path is asked for where the newer one is not known.
        "/model_info" if path == "/get_model_info" => Reply::status(404, "{}"),
        "/server_info" | "/get_server_info" => Reply::status(404, "{}"),
        "/inference/v1/generate" => Reply::status(403, "{}"),
        asked => good.iter().find(|(path, _)| path == asked).map_or_else(
            || Reply::status(404, r#"{"detail": "Not Found"}"#),
            |(_, body)| Reply::json(body.clone()),
        ),
    })
}

type Told = Result<(String, Limits)>;

fn sglang(server: &HttpServer) -> Told {
    let teacher = SglangTeacher::connect(&[server.url()], impatient())?;
    Ok((teacher.identity()?, teacher.limits()))
}

fn vllm(server: &HttpServer) -> Told {
    let teacher = VllmTeacher::connect(&[server.url()], impatient())?;
    Ok((teacher.identity()?, teacher.limits()))
}

#[test]
fn every_description_is_read() {
    let mut told = Vec::new();
    for (kind, connect) in
        [("sglang", sglang as fn(&HttpServer) -> Told), ("vllm", vllm as fn(&HttpServer) -> Told)]
    {
        for exchange in of_role(kind, Role::Description) {
            let name = exchange.name.clone();
            match connect(&described(kind, &exchange)) {
                Ok((identity, limits)) => {
                    assert_eq!(exchange.status, 200, "{name}");
                    assert_eq!(limits.longest, Some(if kind == "vllm" { 511 } else { 505 }));
                    told.push((name, identity));
                }
                Err(error) => {
                    let text = format!("{:#}", anyhow::Error::from(error));
                    let status = format!("status {}", exchange.status);
                    assert!(text.contains(&status) && exchange.status == 401, "{name}: {text}");
                    assert!(text.contains(&message(&exchange.response)), "{name}: {text}");
                    told.push((name, "refused".to_owned()));
                }
            }
        }
    }
    let told: Vec<(&str, &str)> = told.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let first = "sglang model `/models/teacher`, weight version `default`";
    assert_eq!(
        told,
        [
            ("auth_model_info_nokey", "refused"),
            ("auth_v1_models_nokey", "refused"),
            ("get_get_model_info", first),
            ("get_model_info", first),
            ("get_v1_models", first),
            (
                "model_info_after_update",
                "sglang model `/models/teacher-b`, weight version `step-7`"
            ),
            ("get_v1_models", "vllm model `teacher=/models/teacher`, weight version `default`"),
            ("weight_info", "vllm model `teacher=/models/teacher`, weight version `default`"),
            ("weight_info2", "vllm model `teacher=/models/teacher`, weight version `step-7`"),
        ]
    );
}

/// A server that fails until its circuit opens is asked for its health before it is asked again.
#[test]
fn every_state_of_health_is_believed() {
    let mut states = Vec::new();
    for kind in ["sglang", "vllm"] {
        for exchange in of_role(kind, Role::Health) {
            let asked = Arc::new(AtomicUsize::new(0));
            let (counter, status) = (asked.clone(), exchange.status);
            let mut settings = quick();
            settings.http.retry.patience = std::time::Duration::from_millis(300);
            let failures = settings.http.circuit.failures as usize;
            let failed = AtomicUsize::new(0);
            let server = HttpServer::start(move |request| match request.path.as_str() {
                "/health" => {
                    counter.fetch_add(1, Ordering::SeqCst);
                    Reply::status(status, "")
                }
                _ if is_scoring(request) && failed.fetch_add(1, Ordering::SeqCst) < failures => {
                    Reply::status(503, "{}")
                }
                _ => oracle::reply(request, "v"),
            });
            let teacher: Box<dyn Teacher> = match kind {
                "sglang" => Box::new(SglangTeacher::connect(&[server.url()], settings).unwrap()),
                _ => Box::new(VllmTeacher::connect(&[server.url()], settings).unwrap()),
            };
            let pairs = [(vec![1, 2], vec![3, 4])];
            let scores = teacher.score(&request(&pairs, 1.0, Wanted::Sampled)).unwrap();
            assert!(asked.load(Ordering::SeqCst) > 0, "{}: health was not asked", exchange.name);
            match exchange.status {
                200 => assert_eq!(bits(&scores), oracle::bits(&pairs)),
                _ => assert_eq!(scores.n_missing(), 2),
            }
            states.push((exchange.name, exchange.status));
        }
    }
    let states: Vec<(&str, u16)> = states.iter().map(|(name, s)| (name.as_str(), *s)).collect();
    let sglang = [("auth_health_nokey", 200), ("get_health", 200)];
    let vllm = [("auth_health", 200), ("get_health", 200), ("health_final", 503)];
    assert_eq!(states, [&sglang[..], &vllm[..]].concat());
}
