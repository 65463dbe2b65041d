//! Endpoints: who may come in, what is read, what is answered.

mod admission;
mod completions;
mod fault;
mod generate;
mod health;
mod info;
mod submit;
mod tokenize;

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use self::fault::{Dialect, Fault};
use crate::server::Shared;

/// All endpoints.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/generate", post(generate::generate).put(generate::generate))
        .route("/v1/completions", post(completions::completions))
        .route("/health", get(health::health))
        .route("/ready", get(health::health))
        .route("/ping", get(health::health))
        .route("/health_generate", get(health::health_generate))
        .route("/model_info", get(info::model_info))
        .route("/get_model_info", get(info::model_info))
        .route("/server_info", get(info::server_info))
        .route("/get_server_info", get(info::server_info))
        .route("/flush_cache", get(info::flush_cache).post(info::flush_cache))
        .route("/v1/models", get(info::models))
        .route("/version", get(info::version))
        .route("/metrics", get(info::metrics))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/tokenizer.json", get(tokenize::file))
        .fallback(async || detail(StatusCode::NOT_FOUND, "Not Found"))
        .method_not_allowed_fallback(async || {
            detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        })
        .layer(middleware::from_fn_with_state(shared.clone(), observe))
        .with_state(shared)
}

/// Checks the key, and counts what is answered.
async fn observe(
    State(shared): State<Arc<Shared>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let endpoint = path.map_or("other", |path| known(path.as_str()));
    let open = matches!(endpoint, "/health" | "/ready" | "/ping");
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let may = open || shared.options.key.as_ref().is_none_or(|key| key.opens(authorization));
    let mut response = match may {
        true => next.run(request).await,
        false => unauthorized(),
    };
    if shared.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    shared.metrics.answered(endpoint, response.status().as_u16(), start.elapsed());
    response
}

/// A label that lives as long as the program.
fn known(path: &str) -> &'static str {
    const PATHS: [&str; 16] = [
        "/generate",
        "/v1/completions",
        "/health",
        "/ready",
        "/ping",
        "/health_generate",
        "/model_info",
        "/get_model_info",
        "/server_info",
        "/get_server_info",
        "/flush_cache",
        "/v1/models",
        "/version",
        "/metrics",
        "/tokenize",
        "/tokenizer.json",
    ];
    PATHS.into_iter().find(|known| *known == path).unwrap_or("other")
}

fn unauthorized() -> Response {
    let mut response = json(StatusCode::UNAUTHORIZED, r#"{"error":"Unauthorized"}"#);
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

fn detail(status: StatusCode, what: &str) -> Response {
    json(status, serde_json::json!({ "detail": what }).to_string())
}

/// A response of JSON.
fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// An answer, or the fault in the words of the protocol.
fn answer(body: Result<Vec<u8>, Fault>, dialect: Dialect) -> Response {
    match body {
        Ok(body) => json(StatusCode::OK, body),
        Err(fault) => fault.response(dialect),
    }
}
