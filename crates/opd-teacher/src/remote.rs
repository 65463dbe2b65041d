use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use opd_batch::{ScoreRequest, ScoredSequence, TeacherScores, Wanted};
use opd_http::{Client, Request, Verdict};

use crate::{
    Error, RemoteSettings, Result,
    answers::Answers,
    base_url,
    limits::Limits,
    part::{ids_of, k_of},
    protocol::{Described, Protocol, Question, Scored},
};

/// Times that a batch is scored anew because the server's weights changed meanwhile.
pub(crate) const RESCORINGS: usize = 3;

/// Prompts from this many tokens on are sent ahead, for the server to keep.
const WORTH_CACHING: usize = 64;

/// A teacher behind HTTP: what SGLang and vLLM have in common.
#[derive(Debug)]
pub(crate) struct Remote<P> {
    name: String,
    client: Client,
    protocol: P,
    limits: Limits,
    per_request: usize,
    at_temperature_one: bool,
    /// Model and weight version, as last seen.
    seen: Mutex<Described>,
}

/// A whole request.
#[derive(Clone, Copy)]
struct Asked<'a> {
    sequences: &'a [ScoredSequence<'a>],
    temperature: f32,
    k: usize,
    /// By row; empty if no ids are named.
    named: &'a [&'a [u32]],
}

impl<P: Protocol> Remote<P> {
    /// Asks every server who it is; all must have one model.
    pub(crate) fn connect<S: AsRef<str>>(
        urls: &[S],
        settings: RemoteSettings,
        protocol: P,
    ) -> Result<Self> {
        let bases: Vec<&str> = urls.iter().map(|url| base_url(url.as_ref())).collect();
        let mut http = settings.http;
        http.health.get_or_insert_with(|| "/health".to_owned());
        let client = Client::new(&bases, http)?;
        let n = client.endpoints().len();
        let described = client.run(join_all((0..n).map(|i| protocol.describe(&client, Some(i)))));
        let described = described.into_iter().collect::<Result<Vec<_>>>()?;
        let bases: Vec<String> = client.endpoints().map(str::to_owned).collect();
        let first = described[0].clone();
        for (other, url) in described.iter().zip(&bases) {
            if (&other.model, &other.version) != (&first.model, &first.version) {
                return Err(Error::Endpoints {
                    first: format!("{} has {first}", bases[0]),
                    other: format!("{url} has {other}"),
                });
            }
        }
        let told = described.iter().filter_map(|d| d.vocab_size).min();
        let limits = Limits {
            longest: described.iter().filter_map(|d| d.longest).min(),
            vocab_size: told.into_iter().chain(settings.vocab_size).min(),
        };
        let host = bases[0].split_once("://").map_or(bases[0].as_str(), |(_, host)| host);
        let name = settings.name.unwrap_or_else(|| format!("{}@{host}", first.model));
        Ok(Self {
            name,
            protocol: protocol.with_description(&first),
            client,
            limits,
            per_request: settings.sequences_per_request.max(1),
            at_temperature_one: settings.at_temperature_one,
            seen: Mutex::new(first),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Model and weight version as the server now says.
    pub(crate) fn identity(&self) -> opd_batch::Result<String> {
        let now = self.client.run(self.protocol.describe(&self.client, None));
        let now = now.map_err(|error| self.failed(error))?;
        self.note(&now);
        Ok(format!("{} {now}", P::KIND))
    }

    pub(crate) fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        let boundaries = request.rows();
        let named: Vec<&[u32]> = match request.wanted {
            Wanted::Sampled | Wanted::TopK(_) => Vec::new(),
            Wanted::Ids { .. } if self.protocol.names_ids() => {
                (0..request.sequences.len()).map(|row| ids_of(request, &boundaries, row)).collect()
            }
            _ => {
                return Err(opd_batch::Error::Unsupported {
                    teacher: self.name.clone(),
                    wanted: "log-probs of ids named per position".into(),
                    remedy: "ask for `Wanted::TopK`, serve the teacher with `opd serve`, or load \
                             it in process"
                        .into(),
                });
            }
        };
        let k = k_of(request.wanted);
        let temperature = if self.at_temperature_one { 1.0 } else { request.temperature };
        if temperature != 1.0 && !P::TEMPERATURE {
            return Err(self.no_temperature(temperature));
        }
        let checked = self.limits.check(&self.name, &request.sequences);
        checked.map_err(|error| self.failed(error))?;
        let rows: Vec<usize> = (0..request.sequences.len())
            .filter(|&row| !request.sequences[row].response.is_empty())
            .collect();
        let asked = Asked { sequences: &request.sequences, temperature, k, named: &named };
        let answers = self.client.run(self.all(asked, rows));
        match answers {
            Ok(answers) => answers.into_scores(request, k),
            Err(Error::Temperature { .. }) => Err(self.no_temperature(temperature)),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, source: Error) -> opd_batch::Error {
        opd_batch::Error::Teacher { teacher: self.name.clone(), source: Box::new(source) }
    }

    fn no_temperature(&self, temperature: f32) -> opd_batch::Error {
        opd_batch::Error::Unsupported {
            teacher: self.name.clone(),
            wanted: format!("scores at temperature {temperature}"),
            remedy: "this server scores at temperature 1 only: sample at 1, serve the teacher \
                     with `opd serve`, or load it in process"
                .into(),
        }
    }

    /// Scores of all `rows`, by one version of the weights.
    async fn all(&self, asked: Asked<'_>, mut rows: Vec<usize>) -> Result<Answers> {
        let mut answers = Answers::new(asked.sequences.len());
        let mut before = self.version_around(None).await?;
        for _ in 0..=RESCORINGS {
            self.once(asked, &rows, &mut answers).await?;
            let after = self.version_around(before.clone()).await?;
            if before != after {
                before = after;
                answers.forget(&rows);
                continue;
            }
            if !answers.are_mixed() {
                if let Some(version) = answers.version() {
                    self.note_version(version);
                }
                return Ok(answers);
            }
            let now = self.protocol.describe(&self.client, None).await?;
            rows = answers.not_of(now.version.as_deref());
            answers.forget(&rows);
        }
        Err(Error::Weights { teacher: self.name.clone(), times: RESCORINGS + 1 })
    }

    /// The weight version, of servers whose answers do not name it.
    async fn version_around(&self, last: Option<String>) -> Result<Option<String>> {
        if !self.protocol.must_ask_version() {
            return Ok(last);
        }
        match self.protocol.describe(&self.client, None).await {
            Ok(now) => {
                self.note(&now);
                Ok(now.version)
            }
            // The scores that were given are by the weights of before, as far as one can tell.
            Err(Error::Http(error)) if error.is_outage() => Ok(last),
            Err(error) => Err(error),
        }
    }

    /// Asks for `rows` once; prompts that several share go ahead where the server keeps them.
    async fn once(&self, asked: Asked<'_>, rows: &[usize], answers: &mut Answers) -> Result<()> {
        let groups = groups(asked.sequences, rows);
        let mut pending: FuturesUnordered<_> =
            groups.into_iter().map(|group| self.group(asked, group)).collect();
        while let Some(group) = pending.next().await {
            for (row, scored) in group? {
                answers.put(row, scored);
            }
        }
        Ok(())
    }

    async fn group(
        &self,
        asked: Asked<'_>,
        mut rows: Vec<usize>,
    ) -> Result<Vec<(usize, Option<Scored>)>> {
        let mut answers = Vec::with_capacity(rows.len());
        let mut near = None;
        let prompt = asked.sequences[rows[0]].prompt;
        if self.protocol.keeps_prompts() && rows.len() > 1 && prompt.len() >= WORTH_CACHING {
            let (first, endpoint) = self.batch(asked, &[rows.remove(0)], None).await?;
            near = endpoint;
            answers.extend(first);
        }
        let batches = rows.chunks(self.protocol.per_request(self.per_request));
        let batches = batches.map(|rows| self.batch(asked, rows, near));
        for batch in join_all(batches).await {
            answers.extend(batch?.0);
        }
        Ok(answers)
    }

    /// Asks for sequences of one prompt together, and each alone if that fails: a server may
    /// refuse a whole request for one item and not say which.
    async fn batch(
        &self,
        asked: Asked<'_>,
        rows: &[usize],
        near: Option<usize>,
    ) -> Result<(Vec<(usize, Option<Scored>)>, Option<usize>)> {
        let together = self.ask(asked, rows, near).await;
        let error = match together {
            Ok((scored, endpoint)) => {
                let scored = rows.iter().copied().zip(scored.into_iter().map(Some));
                return Ok((scored.collect(), Some(endpoint)));
            }
            Err(error) => error,
        };
        if rows.len() == 1 || !may_be_one_item(&error) {
            return Ok((self.missing(rows, error)?, None));
        }
        let alone = rows.iter().map(|&row| async move {
            match self.ask(asked, &[row], near).await {
                Ok((scored, _)) => {
                    Ok(scored.into_iter().map(|scored| (row, Some(scored))).collect())
                }
                Err(error) => self.missing(&[row], error),
            }
        });
        let alone = join_all(alone).await.into_iter().collect::<Result<Vec<Vec<_>>>>()?;
        Ok((alone.into_iter().flatten().collect(), None))
    }

    /// After the last retry a score is missing; what a retry cannot mend is an error.
    fn missing(&self, rows: &[usize], error: Error) -> Result<Vec<(usize, Option<Scored>)>> {
        match error {
            Error::Http(error) if error.is_outage() => {
                tracing::warn!("teacher `{}`: no scores for rows {rows:?}: {error}", self.name);
                Ok(rows.iter().map(|&row| (row, None)).collect())
            }
            Error::Http(source) => Err(Error::Row { row: rows[0], source }),
            error => Err(error),
        }
    }

    async fn ask(
        &self,
        asked: Asked<'_>,
        rows: &[usize],
        near: Option<usize>,
    ) -> Result<(Vec<Scored>, usize)> {
        let Asked { temperature, k, .. } = asked;
        let batch: Vec<_> = rows.iter().map(|&row| asked.sequences[row]).collect();
        let named: Vec<&[u32]> =
            rows.iter().filter_map(|&row| asked.named.get(row).copied()).collect();
        let vocab_size = self.limits.vocab_size;
        let question = Question { sequences: &batch, temperature, k, named: &named, vocab_size };
        let request = || -> Request {
            let tokens: usize = batch.iter().map(|s| s.prompt.len() + s.response.len()).sum();
            self.protocol.request(&question).with_longest_answer(P::longest_answer(tokens, k))
        };
        let judge = |body: &[u8]| -> Verdict<Result<Vec<Scored>>> {
            match self.protocol.judge(&question, body) {
                Verdict::Accept(scored) => Verdict::Accept(Ok(scored)),
                Verdict::Incomplete(scored, why) => Verdict::Incomplete(Ok(scored), why),
                Verdict::Retry(why) => Verdict::Retry(why),
                Verdict::Refuse(_) => Verdict::Accept(Err(Error::Temperature { temperature })),
            }
        };
        let answer = self.client.send(near, request, judge).await?;
        if let Some(why) = &answer.incomplete {
            tracing::warn!("teacher `{}`: scores are missing: {why}", self.name);
        }
        Ok((answer.value?, answer.endpoint))
    }

    fn note(&self, now: &Described) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if (&seen.model, &seen.version) != (&now.model, &now.version) {
            tracing::warn!("teacher `{}` has changed: it was {seen} and is {now}", self.name);
            *seen = now.clone();
        }
    }

    fn note_version(&self, version: &str) {
        let now = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            Described { version: Some(version.to_owned()), ..seen.clone() }
        };
        self.note(&now);
    }
}

/// Whether one bad item may have spoiled the whole request.
fn may_be_one_item(error: &Error) -> bool {
    match error {
        Error::Http(opd_http::Error::Refused { status, .. }) => matches!(status, 400 | 413 | 422),
        Error::Http(opd_http::Error::GaveUp { .. }) => true,
        _ => false,
    }
}

/// Rows with the same prompt, in the order of their first.
fn groups(sequences: &[ScoredSequence<'_>], rows: &[usize]) -> Vec<Vec<usize>> {
    let mut places: HashMap<&[u32], usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &row in rows {
        let place = *places.entry(sequences[row].prompt).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(row);
    }
    groups
}
