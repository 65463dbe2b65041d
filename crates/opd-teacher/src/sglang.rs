use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_http::{Client, Request, Verdict};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    Error, Limits, RemoteSettings, Result,
    protocol::{Described, Protocol, Question, Scored, accept, get, number, sound, text},
    remote::Remote,
};

/// A teacher behind SGLang's `/generate`, or behind `opd serve`.
///
/// Scores start at the last token of the prompt, so that SGLang may take the prompt from its
/// cache; of samples that share a long prompt one goes ahead. A temperature other than 1 is
/// sent along, and the answer must say that it was honoured: SGLang itself scores at 1 only.
#[derive(Debug)]
pub struct SglangTeacher(Remote<Sglang>);

impl SglangTeacher {
    /// Connects to servers of one model: `http://HOST:PORT`, with or without `/generate`.
    ///
    /// # Errors
    ///
    /// [`Error::Http`] if a server cannot be asked, [`Error::Endpoints`] if they differ.
    pub fn connect<S: AsRef<str>>(urls: &[S], settings: RemoteSettings) -> Result<Self> {
        Ok(Self(Remote::connect(urls, settings, Sglang::default())?))
    }

    /// Passes if the servers score at this temperature.
    ///
    /// # Errors
    ///
    /// [`opd_batch::Error::Unsupported`] if they score at 1 whatever is asked,
    /// [`opd_batch::Error::Teacher`] if they cannot be asked.
    pub fn check_temperature(&self, temperature: f32) -> opd_batch::Result<()> {
        let sequences = vec![ScoredSequence { prompt: &[0], response: &[0] }];
        let request =
            ScoreRequest { sequences, temperature, wanted: Wanted::Sampled, sources: &[] };
        self.0.score(&request).map(drop)
    }

    /// What may be sent.
    pub fn limits(&self) -> Limits {
        self.0.limits()
    }
}

impl Teacher for SglangTeacher {
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
pub(crate) struct Sglang {
    shares_prompts: bool,
    names_ids: bool,
}

/// Tokens by which SGLang's longest sequence is shorter than its context, or than its pool of
/// keys and values if that is smaller: its scheduler refuses inputs that reach 6 less.
const MARGIN: usize = 7;

#[derive(Serialize)]
struct Body {
    input_ids: OneOrMany<Vec<u32>>,
    sampling_params: Sampling,
    return_logprob: bool,
    logprob_start_len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs_num: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids_logprob_per_position: Option<OneOrMany<Vec<Vec<u32>>>>,
}

/// One value for one sequence, a list for several.
#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn of(values: Vec<T>) -> Self {
        match <[T; 1]>::try_from(values) {
            Ok([one]) => Self::One(one),
            Err(many) => Self::Many(many),
        }
    }
}

#[derive(Serialize)]
struct Sampling {
    temperature: f32,
    max_new_tokens: u32,
    skip_special_tokens: bool,
}

#[derive(Deserialize)]
struct Item {
    meta_info: Meta,
}

/// `[log-prob, id, text]`.
type Triple = (Option<f64>, u32, IgnoredAny);

#[derive(Deserialize)]
struct Meta {
    finish_reason: Option<Reason>,
    prompt_tokens: Option<usize>,
    weight_version: Option<String>,
    input_token_logprobs: Option<Vec<Triple>>,
    input_top_logprobs: Option<Vec<Option<Vec<Triple>>>>,
    input_token_ids_logprobs: Option<Vec<Option<Vec<Triple>>>>,
    input_logprob_temperature: Option<f64>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(rename = "type")]
    kind: String,
    message: Option<String>,
}

impl Protocol for Sglang {
    const KIND: &'static str = "sglang";
    const TEMPERATURE: bool = true;

    fn longest_answer(tokens: usize, k: usize) -> usize {
        (64 << 10) + tokens * (128 + 96 * k)
    }

    async fn describe(&self, client: &Client, endpoint: Option<usize>) -> Result<Described> {
        let info = match get(client, endpoint, "/model_info").await? {
            None => get(client, endpoint, "/get_model_info").await?,
            info => info,
        };
        let models = get(client, endpoint, "/v1/models").await?;
        let (info, models) = (info.as_ref(), models.as_ref());
        let model = text(info, "/model_path").or_else(|| text(models, "/data/0/id"));
        let Some(model) = model else {
            let index = endpoint.unwrap_or(0);
            let url = client.endpoints().nth(index).unwrap_or_default().to_owned();
            return Err(Error::NoDescription { url, kind: Self::KIND });
        };
        // `opd serve` says that it honours temperatures; it takes sequences as long as its
        // context, where SGLang keeps a margin.
        let ours = info.is_some_and(|info| info.get("input_logprob_temperature").is_some());
        // A router says of its models nothing but their names.
        let context = number(models, "/data/0/max_model_len").or(number(info, "/max_model_len"));
        let longest = match endpoint.filter(|_| !ours) {
            Some(endpoint) => longest(client, endpoint, context).await,
            None => context,
        };
        let per_position = "/token_ids_logprob_per_position";
        Ok(Described {
            model,
            version: text(info, "/weight_version"),
            longest,
            vocab_size: number(info, "/vocab_size"),
            shares_prompts: ours,
            names_ids: info.and_then(|info| info.pointer(per_position)?.as_bool()).unwrap_or(false),
            token_form: false,
        })
    }

    fn with_description(self, described: &Described) -> Self {
        Self { shares_prompts: described.shares_prompts, names_ids: described.names_ids }
    }

    fn must_ask_version(&self) -> bool {
        false
    }

    fn keeps_prompts(&self) -> bool {
        !self.shares_prompts
    }

    fn names_ids(&self) -> bool {
        self.names_ids
    }

    fn request(&self, question: &Question<'_>) -> Request {
        let ids: Vec<Vec<u32>> =
            question.sequences.iter().map(|s| [s.prompt, s.response].concat()).collect();
        let start = question.sequences.first().map_or(0, |s| s.prompt.len() - 1);
        let k = question.k;
        let body = Body {
            input_ids: OneOrMany::of(ids),
            sampling_params: Sampling {
                temperature: question.temperature,
                max_new_tokens: 0,
                skip_special_tokens: false,
            },
            return_logprob: true,
            logprob_start_len: start,
            top_logprobs_num: (k > 0 && question.named.is_empty()).then_some(k),
            token_ids_logprob_per_position: (!question.named.is_empty()).then(|| {
                let lists = |ids: &&[u32]| ids.chunks(k.max(1)).map(<[u32]>::to_vec).collect();
                OneOrMany::of(question.named.iter().map(lists).collect())
            }),
        };
        // Numbers, lists and names of fields: nothing that JSON cannot hold.
        Request::post("/generate", serde_json::to_vec(&body).unwrap_or_default())
    }

    fn judge(&self, question: &Question<'_>, body: &[u8]) -> Verdict<Vec<Scored>> {
        let items: serde_json::Result<Vec<Item>> = match question.sequences {
            [_] => serde_json::from_slice(body).map(|item| vec![item]),
            _ => serde_json::from_slice(body),
        };
        let items = match items {
            Ok(items) => items,
            Err(error) => return Verdict::Retry(format!("no answer of /generate: {error}")),
        };
        let (expected, got) = (question.sequences.len(), items.len());
        if got != expected {
            return Verdict::Retry(format!("{got} answers to {expected} sequences"));
        }
        if question.temperature != 1.0 && !items.iter().all(|item| honours(item, question)) {
            return Verdict::Refuse("temperature".to_owned());
        }
        let scored = question.sequences.iter().zip(items);
        let scored: Result<Vec<Scored>, String> = scored
            .enumerate()
            .map(|(i, (sequence, item))| {
                let named = question.named.get(i).copied();
                let highest =
                    question.vocab_size.and_then(|n| u32::try_from(n.checked_sub(1)?).ok());
                let scored = scored_of(*sequence, question.k, named, highest, item.meta_info);
                scored.map_err(|why| format!("sequence {i} of the request: {why}"))
            })
            .collect();
        scored.map_or_else(Verdict::Retry, accept)
    }
}

/// The longest sequence that an SGLang server takes. A server that keeps `/server_info` to its
/// administrators is judged by its context alone.
async fn longest(client: &Client, endpoint: usize, context: Option<usize>) -> Option<usize> {
    let info = match get(client, Some(endpoint), "/server_info").await {
        Ok(None) => get(client, Some(endpoint), "/get_server_info").await,
        info => info,
    };
    let info = info.unwrap_or_default();
    let refused = number(info.as_ref(), "/max_req_input_len");
    let pool = number(info.as_ref(), "/max_total_num_tokens");
    let fits = context.into_iter().chain(pool).min().map(|n| n.saturating_sub(MARGIN));
    refused.map(|n| n.saturating_sub(1)).into_iter().chain(fits).min()
}

fn honours(item: &Item, question: &Question<'_>) -> bool {
    let told = item.meta_info.input_logprob_temperature;
    let asked = f64::from(question.temperature);
    // An aborted answer says nothing of how it would have been scored.
    item.meta_info.aborted().is_some() || told.is_some_and(|t| (t - asked).abs() <= 1e-6 * asked)
}

impl Meta {
    fn aborted(&self) -> Option<&Reason> {
        self.finish_reason.as_ref().filter(|reason| reason.kind == "abort")
    }
}

/// Checks an answer against what was sent: everything that can be echoed must be.
fn scored_of(
    ScoredSequence { prompt, response }: ScoredSequence<'_>,
    k: usize,
    named: Option<&[u32]>,
    highest: Option<u32>,
    meta: Meta,
) -> Result<Scored, String> {
    if let Some(reason) = meta.aborted() {
        return Err(format!("aborted: {}", reason.message.as_deref().unwrap_or("no reason given")));
    }
    let length = prompt.len() + response.len();
    if let Some(got) = meta.prompt_tokens.filter(|&got| got != length) {
        return Err(format!("it counts {got} tokens, {length} were sent"));
    }
    let triples = meta.input_token_logprobs.ok_or("no `input_token_logprobs`")?;
    let (expected, got) = (response.len() + 1, triples.len());
    if got != expected {
        return Err(format!("{got} log-probs where {expected} are due"));
    }
    let sent = prompt.last().into_iter().chain(response);
    // SGLang scores the highest id of its vocabulary, and echoes it as 0.
    let echoes = |sent: u32, id: u32| sent == id || (id == 0 && highest == Some(sent));
    if let Some((_, (_, id, _))) =
        sent.zip(&triples).find(|&(&sent, &(_, id, _))| !echoes(sent, id))
    {
        return Err(format!("it scored id {id}, which was not sent at that place"));
    }
    if triples.first().is_some_and(|(logprob, ..)| logprob.is_some()) {
        return Err("the first log-prob is not null".to_owned());
    }
    let logprobs = triples.iter().skip(1).map(|(logprob, ..)| sound(*logprob)).collect();
    let top = match (k, named) {
        (0, _) => Vec::new(),
        (_, None) => {
            let lists = meta.input_top_logprobs.ok_or("no `input_top_logprobs`")?;
            top_of(&lists, response.len(), k)?
        }
        (_, Some(named)) => {
            let lists = meta.input_token_ids_logprobs.ok_or("no `input_token_ids_logprobs`")?;
            let top = top_of(&lists, response.len(), k)?;
            if !top.iter().map(|(id, _)| id).eq(named) {
                return Err("other ids are scored than were named".to_owned());
            }
            top
        }
    };
    Ok(Scored { logprobs, top, version: meta.weight_version })
}

fn top_of(
    positions: &[Option<Vec<Triple>>],
    response: usize,
    k: usize,
) -> Result<Vec<(u32, f32)>, String> {
    if positions.len() != response + 1 {
        let got = positions.len();
        return Err(format!("{got} lists of ids where {} are due", response + 1));
    }
    let mut top = Vec::with_capacity(response * k);
    for position in &positions[1..] {
        let entries = position.as_deref().unwrap_or_default();
        if entries.len() != k {
            return Err(format!("{} ids beside the sent one where {k} are due", entries.len()));
        }
        for (logprob, id, _) in entries {
            let logprob = sound(*logprob).ok_or("an id without a log-prob")?;
            top.push((*id, logprob));
        }
    }
    Ok(top)
}
