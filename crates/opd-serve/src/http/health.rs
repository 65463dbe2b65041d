use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::IntoResponse};

use super::{
    admission::{admit, nothing},
    fault::{Dialect, Fault},
    submit::submit,
};
use crate::{Item, NamedIds, NextToken, server::Shared};

/// 200 unless the server is shutting down.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> StatusCode {
    match shared.is_stopping() {
        false => StatusCode::OK,
        true => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// 200 once the model has computed a token.
pub(super) async fn health_generate(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match compute(&shared).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(fault) => fault.response(Dialect::SgLang),
    }
}

async fn compute(shared: &Shared) -> Result<(), Fault> {
    let _place = admit(shared, nothing()).await?;
    let item = Item {
        tokens: vec![0],
        start: 0,
        temperature: 1.0,
        top: 0,
        named: NamedIds::None,
        rank: false,
        next: NextToken::Greedy,
    };
    submit(shared, vec![item]).await.map(drop)
}
