use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::json as respond;
use crate::server::Shared;

/// SGLang's `/model_info`, with sizes, what this server does beyond SGLang, and its limits.
pub(super) async fn model_info(State(shared): State<Arc<Shared>>) -> Response {
    let model = &shared.model;
    let config = model.lm.config();
    let path = model.lm.source().canonicalize().unwrap_or_else(|_| model.lm.source().to_owned());
    let limits = shared.options.limits;
    let body = json!({
        "model_path": path,
        "served_model_name": model.name,
        "tokenizer_path": model.tokenizer.is_some().then_some(&path),
        "is_generation": true,
        "preferred_sampling_params": null,
        "weight_version": model.weight_version,
        "load_format": "auto",
        "model_type": config.architecture.name().trim_end_matches("ForCausalLM").to_lowercase(),
        "architectures": [config.architecture.name()],
        "has_image_understanding": false,
        "has_audio_understanding": false,
        "max_model_len": config.context,
        "vocab_size": config.vocab_size,
        "input_logprob_temperature": true,
        "token_ids_logprob_per_position": true,
        "opd": {
            "version": env!("CARGO_PKG_VERSION"),
            "max_sequences": limits.max_sequences,
            "max_body_bytes": limits.max_body_bytes,
            "max_entries": limits.max_entries,
            "max_queue": limits.max_queue,
        },
    });
    respond(StatusCode::OK, body.to_string())
}

/// SGLang's `/server_info`: what its clients read of it.
pub(super) async fn server_info(State(shared): State<Arc<Shared>>) -> Response {
    let model = &shared.model;
    let context = model.lm.config().context;
    let body = json!({
        "model_path": model.lm.source(),
        "served_model_name": model.name,
        "weight_version": model.weight_version,
        "device": if model.lm.device().is_cpu() { "cpu" } else { "cuda" },
        "dtype": "float32",
        "context_length": context,
        "max_total_num_tokens": shared.options.max_batch_tokens.max(context),
        "max_req_input_len": context + 1,
        "version": env!("CARGO_PKG_VERSION"),
        "status": "ready",
    });
    respond(StatusCode::OK, body.to_string())
}

/// SGLang's order to empty its cache.
pub(super) async fn flush_cache(State(shared): State<Arc<Shared>>) -> Response {
    shared.kept.clear();
    (StatusCode::OK, "Cache flushed.\n").into_response()
}

/// OpenAI's list of models: one.
pub(super) async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let model = &shared.model;
    let body = json!({ "object": "list", "data": [{
        "id": model.name,
        "object": "model",
        "created": shared.started,
        "owned_by": "opd",
        "root": model.lm.source(),
        "parent": null,
        "max_model_len": model.lm.config().context,
    }] });
    respond(StatusCode::OK, body.to_string())
}

pub(super) async fn version() -> Response {
    respond(StatusCode::OK, json!({ "version": env!("CARGO_PKG_VERSION") }).to_string())
}

/// Prometheus' text form.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = shared.metrics.text(shared.kept.bytes(), shared.queue.len(), shared.in_flight());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
