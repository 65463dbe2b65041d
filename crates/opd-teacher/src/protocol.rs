use std::{fmt, future::Future};

use opd_batch::ScoredSequence;
use opd_http::{Client, Request, Verdict};
use serde_json::Value;

use crate::{Error, Result};

/// Sequences of one prompt that are scored by one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) sequences: &'a [ScoredSequence<'a>],
    pub(crate) temperature: f32,
    /// Ids per position beside the sent one.
    pub(crate) k: usize,
    /// These ids of each sequence, `k` per token of its response; without them the likeliest.
    pub(crate) named: &'a [&'a [u32]],
    /// The vocabulary, where it is known.
    pub(crate) vocab_size: Option<usize>,
}

/// What a server says of one sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scored {
    /// One per response token.
    pub(crate) logprobs: Vec<Option<f32>>,
    /// `k` per response token, ids and log-probs.
    pub(crate) top: Vec<(u32, f32)>,
    /// Of the weights, if it is named.
    pub(crate) version: Option<String>,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Described {
    pub(crate) model: String,
    pub(crate) version: Option<String>,
    /// Tokens of the longest sequence that it takes.
    pub(crate) longest: Option<usize>,
    pub(crate) vocab_size: Option<usize>,
    /// It computes a prompt that several sequences of one request share only once.
    pub(crate) shares_prompts: bool,
    /// It scores ids that are named per position.
    pub(crate) names_ids: bool,
    /// It has vLLM's form whose answers name the weights.
    pub(crate) token_form: bool,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("unknown");
        write!(f, "model `{}`, weight version `{version}`", self.model)
    }
}

/// How one kind of server is asked.
pub(crate) trait Protocol: Send + Sync {
    /// Name of the kind.
    const KIND: &'static str;
    /// Whether a server of this kind may honour a temperature; its answer says if it did.
    const TEMPERATURE: bool;

    /// Longest answer to sequences of so many tokens, in bytes.
    fn longest_answer(tokens: usize, k: usize) -> usize;

    /// Asks the server of an index, or any with retries.
    fn describe(
        &self,
        client: &Client,
        endpoint: Option<usize>,
    ) -> impl Future<Output = Result<Described>> + Send;

    /// Takes in what the server said of itself at the start.
    fn with_description(self, described: &Described) -> Self;

    /// Whether the weight version must be asked for around a batch.
    fn must_ask_version(&self) -> bool;

    /// Whether a later request profits from a prompt that an earlier one had.
    fn keeps_prompts(&self) -> bool;

    /// Whether ids may be named per position.
    fn names_ids(&self) -> bool;

    /// Sequences per request, of at most `wanted`.
    fn per_request(&self, wanted: usize) -> usize {
        wanted
    }

    fn request(&self, question: &Question<'_>) -> Request;

    /// One [`Scored`] per sequence; [`Verdict::Refuse`] if the temperature was not honoured.
    fn judge(&self, question: &Question<'_>, body: &[u8]) -> Verdict<Vec<Scored>>;
}

/// Bytes of what a server says of itself.
const DESCRIPTION: usize = 4 << 20;

/// A GET that answers JSON; `None` if the server has no such path.
pub(crate) async fn get(
    client: &Client,
    endpoint: Option<usize>,
    path: &str,
) -> Result<Option<Value>> {
    let request = Request::get(path).with_longest_answer(DESCRIPTION);
    let parse = |body: &[u8]| serde_json::from_slice::<Value>(body);
    let answer = match endpoint {
        Some(endpoint) => client.send_once(endpoint, &request).await.and_then(|body| {
            let url = client.endpoints().nth(endpoint).unwrap_or_default().to_owned();
            let bad = |why: String| opd_http::Error::Answer { endpoint: url, why };
            parse(&body).map_err(|error| bad(format!("{path}: {error}")))
        }),
        None => {
            let judge = |body: &[u8]| match parse(body) {
                Ok(value) => Verdict::Accept(value),
                Err(error) => Verdict::Retry(format!("{path}: {error}")),
            };
            client.send(None, || request.clone(), judge).await.map(|answer| answer.value)
        }
    };
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(opd_http::Error::Refused { status: 404 | 405, .. }) => Ok(None),
        Err(error) => Err(Error::Http(error)),
    }
}

/// The text at a place of a description.
pub(crate) fn text(value: Option<&Value>, place: &str) -> Option<String> {
    value?.pointer(place)?.as_str().map(str::to_owned)
}

/// The whole number at a place of a description.
pub(crate) fn number(value: Option<&Value>, place: &str) -> Option<usize> {
    value?.pointer(place)?.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// A log-prob that is one: finite, and not above 0 but for rounding.
pub(crate) fn sound(logprob: Option<f64>) -> Option<f32> {
    let logprob = logprob? as f32;
    (logprob.is_finite() && logprob <= 1e-4).then_some(logprob)
}

/// Accepts scores of every sequence, as incomplete if a token has none.
pub(crate) fn accept(scored: Vec<Scored>) -> Verdict<Vec<Scored>> {
    let values = || scored.iter().flat_map(|scored| &scored.logprobs);
    let holes = values().filter(|value| value.is_none()).count();
    if holes == 0 {
        return Verdict::Accept(scored);
    }
    let of = values().count();
    Verdict::Incomplete(scored, format!("{holes} of {of} log-probs are null, NaN or above 0"))
}
