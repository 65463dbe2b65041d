use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use opd_models::Tokenizer;
use serde::Deserialize;
use serde_json::json;

use super::{
    admission::admit,
    answer, detail,
    fault::{Dialect, Fault},
    json as respond,
};
use crate::server::Shared;

#[derive(Deserialize)]
struct Text {
    #[serde(alias = "text")]
    prompt: String,
    #[serde(default = "yes")]
    add_special_tokens: bool,
}

fn yes() -> bool {
    true
}

/// vLLM's `/tokenize`.
pub(super) async fn tokenize(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answer(ids(&shared, request).await, Dialect::OpenAi)
}

async fn ids(shared: &Shared, request: Request) -> Result<Vec<u8>, Fault> {
    let admitted = admit(shared, request).await?;
    let text: Text = serde_json::from_slice(&admitted.body)
        .map_err(|error| Fault::bad_request(error.to_string()))?;
    let Some(tokenizer) = &shared.model.tokenizer else {
        return Err(Fault::bad_request("the model's directory has no tokenizer.json"));
    };
    let encode = match text.add_special_tokens {
        true => tokenizer.encode(&text.prompt),
        false => tokenizer.encode_continuation(&text.prompt),
    };
    let ids = encode.map_err(|error| Fault::bad_request(error.to_string()))?;
    let max_model_len = shared.model.lm.config().context;
    let body = json!({ "count": ids.len(), "max_model_len": max_model_len, "tokens": ids });
    Ok(body.to_string().into_bytes())
}

/// The model's `tokenizer.json`, for clients that compare it with theirs.
pub(super) async fn file(State(shared): State<Arc<Shared>>) -> Response {
    let path = shared.model.lm.source().to_owned();
    let read = tokio::task::spawn_blocking(move || Tokenizer::file(path)).await;
    match read {
        Ok(Ok(Some(bytes))) => respond(StatusCode::OK, bytes),
        _ => detail(StatusCode::NOT_FOUND, "the model's directory has no tokenizer.json"),
    }
}
