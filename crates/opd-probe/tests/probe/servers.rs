//! A sound server, and something between it and the probe that spoils one thing.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{DType, Device};
use opd_models::CausalLm;
use opd_probe::{Needs, Outcome, Report, Subject, probe};
use opd_teacher::RemoteSettings;
use opd_testkit::{
    GoldenModel, ModelDir,
    http::{HttpRequest, HttpServer, Reply, forward},
};
use serde_json::{Value, json};

use crate::{Site, failed, said, student};

fn model() -> ModelDir {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    dir.write_tokenizer(&["?", "to", "be", "or", "not"]);
    dir
}

/// Probes the model of a directory behind `between`, which may answer for it; it begins once the
/// probe is connected where it is `late`.
fn probed(
    served: &Path,
    own: &Path,
    late: bool,
    between: impl Fn(&HttpRequest) -> Option<Reply> + Send + Sync + 'static,
) -> Report {
    let site = Site::new(served);
    let (address, begun) = (site.address, Arc::new(AtomicBool::new(!late)));
    let begins = begun.clone();
    let server = HttpServer::start(move |request| {
        let spoilt = begun.load(Ordering::SeqCst).then(|| between(request)).flatten();
        spoilt.unwrap_or_else(|| forward(address, request))
    });
    let subject = Subject::server(&server.url(), None, RemoteSettings::default()).unwrap();
    begins.store(true, Ordering::SeqCst);
    probe(&subject, &student(own), Needs::default()).unwrap()
}

#[test]
fn a_server_that_is_not_well_is_found() {
    let dir = model();
    let report = probed(dir.path(), dir.path(), false, |request| {
        (request.path == "/health").then(|| Reply::status(503, r#"{"message": "engine dead"}"#))
    });
    assert_eq!(failed(&report), ["health"], "{report:?}");
    assert!(said(&report, "health").1.contains("engine dead"), "{report:?}");
}

#[test]
fn a_server_that_does_not_say_what_it_serves_is_found() {
    let dir = model();
    let descriptions = ["/model_info", "/get_model_info", "/v1/models"];
    let report = probed(dir.path(), dir.path(), true, move |request| {
        descriptions.contains(&request.path.as_str()).then(|| Reply::status(404, "{}"))
    });
    assert_eq!(failed(&report), ["identity"], "{report:?}");
}

/// The directory has got other weights since the server has read it.
#[test]
fn a_server_that_does_not_have_the_weights_it_names_is_found() {
    let (dir, other) = (model(), model());
    let random = CausalLm::random(other.path(), 7, DType::F32, &Device::Cpu).unwrap();
    let saved = other.path().join("saved");
    random.save(&saved).unwrap();
    let own = dir.path().to_owned();
    let site = Site::new(dir.path());
    std::fs::rename(saved.join("model.safetensors"), own.join("model.safetensors")).unwrap();
    let url = format!("http://{}", site.address);
    let subject = Subject::server(&url, None, RemoteSettings::default()).unwrap();
    let report = probe(&subject, &student(&own), Needs::default()).unwrap();
    assert_eq!(failed(&report), ["divergence"], "{report:?}");
    let text = said(&report, "divergence").1;
    assert!(text.starts_with("teacher and student are one model, but KL"), "{text}");
}

#[test]
fn texts_that_are_cut_differently_are_found() {
    let (dir, own) = (model(), model());
    let path = own.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // One vocabulary; punctuation stays with its word.
    tokenizer["pre_tokenizer"] = json!({ "type": "WhitespaceSplit" });
    std::fs::write(path, tokenizer.to_string()).unwrap();
    let report = probed(dir.path(), own.path(), false, |_| None);
    assert_eq!(failed(&report), ["tokenizer"], "{report:?}");
    let text = said(&report, "tokenizer").1;
    let expected = "one vocabulary, but \"The quick brown fox jumps over 13 lazy dogs.\" is cut into \
                    other tokens";
    assert_eq!(text, expected);
}

/// As of a server whose directory is elsewhere and that offers no file: vLLM.
fn remote(request: &HttpRequest) -> Option<Reply> {
    match request.path.as_str() {
        "/model_info" => {
            let info = json!({ "model_path": "/elsewhere", "weight_version": "1" });
            Some(Reply::json(info.to_string()))
        }
        "/tokenizer.json" => Some(Reply::status(404, "{}")),
        _ => None,
    }
}

#[test]
fn a_tokenizer_elsewhere_is_compared_by_texts() {
    let dir = model();
    let report = probed(dir.path(), dir.path(), false, remote);
    let (outcome, text) = said(&report, "tokenizer");
    assert_eq!(outcome, Outcome::Warn);
    assert!(text.starts_with("8 texts have the same ids"), "{text}");
    let report = probed(dir.path(), dir.path(), false, |request| {
        let spoilt = || Reply::json(r#"{"tokens": [3, 1, 2]}"#);
        remote(request).or_else(|| (request.path == "/tokenize").then(spoilt))
    });
    assert_eq!(failed(&report), ["tokenizer"], "{report:?}");
    assert!(said(&report, "tokenizer").1.contains("has the ids [3, 1, 2] there and"), "{report:?}");
}
