use bytes::Bytes;
use reqwest::Method;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Bytes,
    pub(crate) longest_answer: usize,
}

impl Request {
    /// A POST of a JSON text to `path`, which starts with `/`.
    pub fn post(path: impl Into<String>, json: impl Into<Bytes>) -> Self {
        let (path, body) = (path.into(), json.into());
        Self { method: Method::POST, path, body, longest_answer: LONGEST_ANSWER }
    }

    /// A GET of `path`, which starts with `/`.
    pub fn get(path: impl Into<String>) -> Self {
        let (path, body) = (path.into(), Bytes::new());
        Self { method: Method::GET, path, body, longest_answer: LONGEST_ANSWER }
    }

    /// Takes an answer of at most this many bytes; a longer one counts as broken.
    #[must_use]
    pub fn with_longest_answer(mut self, bytes: usize) -> Self {
        self.longest_answer = bytes;
        self
    }
}

/// Bytes of an answer, unless told otherwise.
const LONGEST_ANSWER: usize = 64 << 20;

/// What the caller makes of an answer with a status of success.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<T> {
    /// Good.
    Accept(T),
    /// Good in parts: asked again, and taken as it is if no better one comes.
    Incomplete(T, String),
    /// Useless, but the next may be good: torn, aborted, or with the wrong number of values.
    Retry(String),
    /// Useless, and so would the next be.
    Refuse(String),
}
