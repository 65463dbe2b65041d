use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::json;

/// Whose error bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"error": {"message": ..}}`
    SgLang,
    /// `{"error": {"message": .., "type": .., "param": null, "code": ..}}`
    OpenAi,
}

/// Why a request is not answered.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(super) fn response(self, dialect: Dialect) -> Response {
        let Self { status, message } = self;
        let code = status.as_u16();
        let busy = status == StatusCode::SERVICE_UNAVAILABLE;
        let body = match dialect {
            Dialect::SgLang if busy => json!({
                "object": "error", "message": message, "type": code.to_string(), "param": null,
                "code": code,
            }),
            Dialect::SgLang => json!({ "error": { "message": message } }),
            Dialect::OpenAi => json!({ "error": {
                "message": message, "type": kind(status), "param": null, "code": code,
            } }),
        };
        let mut response = super::json(status, body.to_string());
        if busy {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequestError",
        StatusCode::NOT_FOUND => "NotFoundError",
        StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLargeError",
        StatusCode::REQUEST_TIMEOUT => "RequestTimeoutError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailableError",
        _ => "InternalServerError",
    }
}
