use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::OwnedSemaphorePermit;

use super::fault::Fault;
use crate::server::{Shared, kibibytes};

/// A request that was let in; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) body: Bytes,
    _places: [OwnedSemaphorePermit; 2],
}

/// Lets a request in and reads it, within the limits of number, size and time.
pub(super) async fn admit(shared: &Shared, request: Request) -> Result<Admitted, Fault> {
    let limits = shared.options.limits;
    if shared.is_stopping() {
        return Err(Fault::unavailable("The server is shutting down."));
    }
    let place = shared.requests.clone().try_acquire_owned().map_err(|_| {
        Fault::unavailable(format!(
            "The request queue is full: {} requests are being served.",
            limits.max_queue
        ))
    })?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let most = limits.max_body_bytes;
    let too_large = || {
        let message = format!("The request is larger than {most} bytes; send several.");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if length.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    // Of a body that does not say its length the longest is assumed.
    let room = kibibytes(length.unwrap_or(most)).max(1);
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    let room = shared.kibibytes.clone().try_acquire_many_owned(room).map_err(|_| {
        Fault::unavailable(format!(
            "The request queue is full: {} bytes of requests are being served.",
            limits.max_queued_bytes
        ))
    })?;
    let body = Limited::new(request.into_body(), most);
    let read = tokio::time::timeout(limits.read_timeout, BodyExt::collect(body)).await;
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(error)) => return Err(Fault::bad_request(format!("the body broke off: {error}"))),
        Err(_) => {
            let seconds = limits.read_timeout.as_secs_f64();
            let message = format!("The request was not sent within {seconds} seconds.");
            return Err(Fault::new(StatusCode::REQUEST_TIMEOUT, message));
        }
    };
    Ok(Admitted { body, _places: [place, room] })
}

/// A request without a body to read.
pub(super) fn nothing() -> Request {
    Request::new(Body::empty())
}
