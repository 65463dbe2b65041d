use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use super::{
    admission::admit,
    answer,
    fault::{Dialect, Fault},
    submit::submit,
};
use crate::{
    server::{Shared, fresh},
    wire::{CompletionRequest, completion_answer},
};

/// vLLM's scoring request.
pub(super) async fn completions(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answer(score(&shared, request).await, Dialect::OpenAi)
}

async fn score(shared: &Shared, request: Request) -> Result<Vec<u8>, Fault> {
    let admitted = admit(shared, request).await?;
    let request = CompletionRequest::parse(&admitted.body).map_err(Fault::bad_request)?;
    check_model(shared, request.model())?;
    let request = request.check(&shared.rules(), fresh).map_err(Fault::bad_request)?;
    let scored = submit(shared, request.items.clone()).await?;
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let id = format!("{:016x}", fresh());
    completion_answer(&request, &scored, &shared.model, &id, created)
        .map_err(|error| Fault::internal(error.to_string()))
}

fn check_model(shared: &Shared, asked: Option<&str>) -> Result<(), Fault> {
    let name = &shared.model.name;
    match asked {
        Some(asked) if asked != name => Err(Fault::new(
            StatusCode::NOT_FOUND,
            format!("The model `{asked}` does not exist. Valid aliases: {name}."),
        )),
        _ => Ok(()),
    }
}
