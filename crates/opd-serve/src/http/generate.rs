use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
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
    wire::{GenerateRequest, Sender, generate_answer},
};

/// SGLang's scoring request.
pub(super) async fn generate(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answer(score(&shared, request).await, Dialect::SgLang)
}

async fn score(shared: &Shared, request: Request) -> Result<Vec<u8>, Fault> {
    let start = Instant::now();
    let admitted = admit(shared, request).await?;
    let request = GenerateRequest::parse(&admitted.body).map_err(Fault::bad_request)?;
    let request = request.check(&shared.rules(), fresh).map_err(Fault::bad_request)?;
    let scored = submit(shared, request.items.clone()).await?;
    let sender = Sender { model: &shared.model, elapsed: start.elapsed() };
    let id = || format!("{:016x}{:016x}", fresh(), fresh());
    generate_answer(&request, &scored, &sender, id).map_err(|e| Fault::internal(e.to_string()))
}
