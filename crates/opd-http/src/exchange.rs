use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use reqwest::{Response, StatusCode, header};

use crate::{ApiKey, Request, said::said};

/// How one attempt failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No connection was made: the server never saw the request.
    NotReached(String),
    /// Sent, but no whole answer came.
    Broken(String),
    /// A status that may go away.
    Busy { why: String, retry_after: Option<Duration> },
    /// An answer of no use from a server that is well.
    Unfit(String),
    /// A status that will not go away.
    Refused { status: u16, said: String },
}

impl Failure {
    /// Whether it speaks against the server.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::NotReached(_) | Self::Broken(_) | Self::Busy { .. })
    }

    pub(crate) fn why(&self) -> &str {
        match self {
            Self::NotReached(why) | Self::Broken(why) | Self::Unfit(why) => why,
            Self::Busy { why, .. } | Self::Refused { said: why, .. } => why,
        }
    }
}

/// Bytes of an error's body that are read.
const ERROR_BODY: usize = 16 << 10;

/// Sends a request once and reads the answer.
pub(crate) async fn exchange(
    http: &reqwest::Client,
    base: &str,
    request: &Request,
    key: Option<&ApiKey>,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    let mut builder = http
        .request(request.method.clone(), format!("{base}{}", request.path))
        .timeout(timeout)
        .header(header::ACCEPT, "application/json");
    if let Some(key) = key {
        builder = builder.header(header::AUTHORIZATION, key.header().clone());
    }
    if !request.body.is_empty() {
        builder =
            builder.header(header::CONTENT_TYPE, "application/json").body(request.body.clone());
    }
    let response = builder.send().await.map_err(|error| failure(&error, timeout))?;
    let status = response.status();
    if status.is_success() {
        return body(response, request.longest_answer, timeout).await;
    }
    let retry_after = retry_after(&response);
    // What the server says of its error is welcome, not needed.
    let text = match body(response, ERROR_BODY, timeout).await {
        Ok(bytes) => readable(&bytes, key),
        Err(_) => "(its message could not be read)".to_owned(),
    };
    if is_passing(status) {
        return Err(Failure::Busy {
            why: format!("status {}: {text}", status.as_u16()),
            retry_after,
        });
    }
    Err(Failure::Refused { status: status.as_u16(), said: text })
}

/// A server's message without the key, whole or where it would be cut.
fn readable(body: &[u8], key: Option<&ApiKey>) -> String {
    let Some(key) = key else { return said(body) };
    let text = key.redact(&String::from_utf8_lossy(body));
    key.redact(&said(text.as_bytes()))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

async fn body(mut response: Response, longest: usize, timeout: Duration) -> Result<Bytes, Failure> {
    let too_long = || Failure::Unfit(format!("an answer of more than {longest} bytes"));
    if response.content_length().is_some_and(|length| length > longest as u64) {
        return Err(too_long());
    }
    let mut read = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error, timeout))? {
        if read.len() + chunk.len() > longest {
            return Err(too_long());
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

fn failure(error: &reqwest::Error, timeout: Duration) -> Failure {
    let mut why = if error.is_timeout() && !error.is_connect() {
        format!("no whole answer within {:.1} s", timeout.as_secs_f64())
    } else {
        causes(error)
    };
    if why.is_empty() {
        why = "the connection failed".to_owned();
    }
    if error.is_connect() { Failure::NotReached(why) } else { Failure::Broken(why) }
}

/// The causes below an error of the library, whose own text repeats the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        source = cause.source();
    }
    texts.join(": ")
}
