use std::collections::BTreeMap;

use opd_batch::{ScoreRequest, Teacher, TeacherScores};
use opd_http::{Client, Request, Verdict};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Limits, RemoteSettings, Result,
    protocol::{Described, Protocol, Question, Scored, accept, get, number, sound, text},
    remote::Remote,
};

/// A teacher behind vLLM: `/inference/v1/generate` where the server has it, whose answers name
/// the version of the weights, else `/v1/completions` with `prompt_logprobs`.
///
/// vLLM scores prompts at temperature 1 only, whatever it is asked for, and from their start.
#[derive(Debug)]
pub struct VllmTeacher(Remote<Vllm>);

impl VllmTeacher {
    /// Connects to servers of one model: `http://HOST:PORT`, with or without `/v1`.
    ///
    /// # Errors
    ///
    /// [`Error::Http`] if a server cannot be asked, [`Error::Endpoints`] if they differ.
    pub fn connect<S: AsRef<str>>(urls: &[S], settings: RemoteSettings) -> Result<Self> {
        Ok(Self(Remote::connect(urls, settings, Vllm::default())?))
    }

    /// What may be sent.
    pub fn limits(&self) -> Limits {
        self.0.limits()
    }
}

impl Teacher for VllmTeacher {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn identity(&self) -> opd_batch::Result<String> {
        self.0.identity()
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        self.0.score(request)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Vllm {
    /// Name under which the model is served.
    model: String,
    token_form: bool,
    tells_version: bool,
}

#[derive(Serialize)]
struct Completions<'a> {
    model: &'a str,
    prompt: Vec<Vec<u32>>,
    max_tokens: u32,
    temperature: f32,
    prompt_logprobs: usize,
    return_token_ids: bool,
}

#[derive(Serialize)]
struct Tokens<'a> {
    model: &'a str,
    token_ids: Vec<u32>,
    sampling_params: Sampling,
}

#[derive(Serialize)]
struct Sampling {
    max_tokens: u32,
    temperature: f32,
    prompt_logprobs: usize,
}

/// What both forms answer, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    prompt_logprobs: Option<Vec<Option<Position>>>,
}

#[derive(Deserialize)]
struct Choice {
    index: usize,
    finish_reason: Option<String>,
    prompt_logprobs: Option<Vec<Option<Position>>>,
    prompt_token_ids: Option<Vec<u32>>,
    weight_versions: Option<Vec<Version>>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

/// Log-probs by id.
type Position = BTreeMap<u32, Entry>;

#[derive(Deserialize)]
struct Entry {
    logprob: Option<f64>,
}

impl Protocol for Vllm {
    const KIND: &'static str = "vllm";
    const TEMPERATURE: bool = false;

    fn longest_answer(tokens: usize, k: usize) -> usize {
        (64 << 10) + tokens * 512 * (1 + k)
    }

    async fn describe(&self, client: &Client, endpoint: Option<usize>) -> Result<Described> {
        let models = get(client, endpoint, "/v1/models").await?;
        let weights = get(client, endpoint, "/weight_info").await?;
        let models = models.as_ref();
        let (Some(id), root) = (text(models, "/data/0/id"), text(models, "/data/0/root")) else {
            let index = endpoint.unwrap_or(0);
            let url = client.endpoints().nth(index).unwrap_or_default().to_owned();
            return Err(Error::NoDescription { url, kind: Self::KIND });
        };
        let token_form = match endpoint {
            Some(endpoint) => has_token_form(client, endpoint).await?,
            None => self.token_form,
        };
        Ok(Described {
            model: root
                .filter(|root| *root != id)
                .map_or(id.clone(), |root| format!("{id}={root}")),
            version: text(weights.as_ref(), "/weight_version"),
            longest: number(models, "/data/0/max_model_len").map(|n| n.saturating_sub(1)),
            vocab_size: number(models, "/data/0/vocab_size"),
            shares_prompts: false,
            names_ids: false,
            token_form,
        })
    }

    fn with_description(self, described: &Described) -> Self {
        let served = described.model.split('=').next().unwrap_or_default();
        Self {
            model: served.to_owned(),
            token_form: described.token_form,
            tells_version: described.version.is_some(),
        }
    }

    fn must_ask_version(&self) -> bool {
        self.tells_version && !self.token_form
    }

    fn keeps_prompts(&self) -> bool {
        false
    }

    fn names_ids(&self) -> bool {
        false
    }

    fn per_request(&self, wanted: usize) -> usize {
        if self.token_form { 1 } else { wanted }
    }

    fn request(&self, question: &Question<'_>) -> Request {
        let mut ids = question.sequences.iter().map(|s| [s.prompt, s.response].concat());
        let (model, prompt_logprobs) = (self.model.as_str(), question.k);
        // Numbers, lists and names: nothing that JSON cannot hold.
        if self.token_form {
            let sampling_params = Sampling { max_tokens: 1, temperature: 1.0, prompt_logprobs };
            let token_ids = ids.next().unwrap_or_default();
            let body = Tokens { model, token_ids, sampling_params };
            let body = serde_json::to_vec(&body).unwrap_or_default();
            return Request::post("/inference/v1/generate", body);
        }
        let body = Completions {
            model,
            prompt: ids.collect(),
            max_tokens: 1,
            temperature: 1.0,
            prompt_logprobs,
            return_token_ids: true,
        };
        Request::post("/v1/completions", serde_json::to_vec(&body).unwrap_or_default())
    }

    fn judge(&self, question: &Question<'_>, body: &[u8]) -> Verdict<Vec<Scored>> {
        let mut answer: Answer = match serde_json::from_slice(body) {
            Ok(answer) => answer,
            Err(error) => return Verdict::Retry(format!("no answer of vLLM: {error}")),
        };
        let (expected, got) = (question.sequences.len(), answer.choices.len());
        if got != expected {
            return Verdict::Retry(format!("{got} answers to {expected} sequences"));
        }
        answer.choices.sort_by_key(|choice| choice.index);
        let mut whole = answer.prompt_logprobs;
        let scored = question.sequences.iter().zip(answer.choices).enumerate();
        let scored: Result<Vec<Scored>, String> = scored
            .map(|(i, (sequence, mut choice))| {
                if choice.index != i {
                    return Err(format!("no answer to sequence {i} of the request"));
                }
                let positions = choice.prompt_logprobs.take().or_else(|| whole.take());
                let scored =
                    scored_of(sequence.prompt, sequence.response, question.k, choice, positions);
                scored.map_err(|why| format!("sequence {i} of the request: {why}"))
            })
            .collect();
        scored.map_or_else(Verdict::Retry, accept)
    }
}

/// Checks an answer against what was sent.
fn scored_of(
    prompt: &[u32],
    response: &[u32],
    k: usize,
    choice: Choice,
    positions: Option<Vec<Option<Position>>>,
) -> Result<Scored, String> {
    if let Some(reason) = choice.finish_reason.filter(|r| !["length", "stop"].contains(&r.as_str()))
    {
        return Err(format!("it ended with `{reason}`"));
    }
    let ids: Vec<u32> = [prompt, response].concat();
    if choice.prompt_token_ids.is_some_and(|echoed| echoed != ids) {
        return Err("other ids are echoed than were sent".to_owned());
    }
    let positions = positions.ok_or("no `prompt_logprobs`")?;
    if positions.len() != ids.len() {
        return Err(format!("{} log-probs where {} are due", positions.len(), ids.len()));
    }
    let empty = positions.iter().position(Option::is_some).unwrap_or(positions.len());
    if empty != 1 || positions.iter().filter(|position| position.is_none()).count() != 1 {
        return Err("not the first log-prob, and it alone, is null".to_owned());
    }
    let mut scored = Scored { version: version(choice.weight_versions), ..Scored::default() };
    for (id, position) in ids.iter().zip(&positions).skip(prompt.len()) {
        let position = position.as_ref().ok_or("a position without log-probs")?;
        let entry = position.get(id).ok_or_else(|| format!("no log-prob of the sent id {id}"))?;
        scored.logprobs.push(sound(entry.logprob));
        likeliest(position, k, &mut scored.top)?;
    }
    Ok(scored)
}

/// The `k` likeliest of a position that also holds the sent id.
fn likeliest(position: &Position, k: usize, top: &mut Vec<(u32, f32)>) -> Result<(), String> {
    if k == 0 {
        return Ok(());
    }
    let entries = position.iter().map(|(id, entry)| Some((*id, sound(entry.logprob)?)));
    let entries: Option<Vec<(u32, f32)>> = entries.collect();
    let mut entries = entries.ok_or("a likeliest id without a log-prob")?;
    if !(k..=k + 1).contains(&entries.len()) {
        return Err(format!("{} likeliest ids where {k} are due", entries.len()));
    }
    entries.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
    top.extend(entries.into_iter().take(k));
    Ok(())
}

/// The version of the weights, if it is one.
fn version(versions: Option<Vec<Version>>) -> Option<String> {
    let mut versions = versions?.into_iter().filter_map(|v| v.version);
    let first = versions.next()?;
    versions.all(|version| version == first).then_some(first)
}

/// Whether the server answers to `/inference/v1/generate`: it knows the path if it complains
/// of the body, and forbids it where it was started without `--enable-scale-out`.
async fn has_token_form(client: &Client, endpoint: usize) -> Result<bool> {
    let request = Request::post("/inference/v1/generate", "{}");
    match client.send_once(endpoint, &request).await {
        Ok(_) | Err(opd_http::Error::Refused { status: 400 | 422, .. }) => Ok(true),
        Err(opd_http::Error::Refused { status: 403..=405, .. }) => Ok(false),
        Err(error) => Err(Error::Http(error)),
    }
}
