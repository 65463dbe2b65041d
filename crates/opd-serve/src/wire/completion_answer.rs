use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{answer::BehindNull, completion_request::Completion};
use crate::{Item, Position, Scored, ServedModel};

#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    system_fingerprint: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    text: String,
    logprobs: Option<()>,
    finish_reason: &'static str,
    stop_reason: Option<()>,
    token_ids: Option<Vec<u32>>,
    prompt_logprobs: Option<BehindNull<Candidates<'a>>>,
    prompt_token_ids: Option<&'a [u32]>,
    /// What the log-probs were divided by, for clients that ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprob_temperature: Option<f32>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: usize,
}

/// The actual token, then the likeliest ones, by id.
struct Candidates<'a> {
    id: u32,
    position: &'a Position,
    model: &'a ServedModel,
}

#[derive(Serialize)]
struct Candidate {
    logprob: f32,
    rank: usize,
    decoded_token: Option<String>,
}

impl Serialize for Candidates<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, position, model } = self;
        let mut map = serializer.serialize_map(None)?;
        let decoded = |id| model.text_of(id);
        let own = Candidate {
            logprob: position.logprob,
            rank: position.rank.unwrap_or(0),
            decoded_token: decoded(*id),
        };
        map.serialize_entry(id, &own)?;
        for (place, &(top, logprob)) in position.top.iter().enumerate() {
            if top != *id {
                let rank = place + 1;
                let candidate = Candidate { logprob, rank, decoded_token: decoded(top) };
                map.serialize_entry(&top, &candidate)?;
            }
        }
        map.end()
    }
}

/// The body of an answer, choices in the order of the prompts.
pub(crate) fn completion_answer(
    request: &Completion,
    scored: &[Scored],
    model: &ServedModel,
    id: &str,
    created: u64,
) -> serde_json::Result<Vec<u8>> {
    let choices: Vec<Choice<'_>> = request
        .items
        .iter()
        .zip(scored)
        .enumerate()
        .map(|(index, (item, scored))| choice(request, index, item, scored, model))
        .collect();
    let prompt_tokens = request.items.iter().map(|item| item.tokens.len()).sum();
    let completion_tokens = scored.iter().filter(|scored| drawn(scored).is_some()).count();
    serde_json::to_vec(&Answer {
        id: format!("cmpl-{id}"),
        object: "text_completion",
        created,
        model: &model.name,
        choices,
        system_fingerprint: format!("opd-{}-{}", env!("CARGO_PKG_VERSION"), model.weight_version),
        usage: Usage {
            prompt_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            completion_tokens,
        },
    })
}

fn drawn(scored: &Scored) -> Option<u32> {
    scored.next.as_ref().and_then(|(id, _)| *id)
}

fn choice<'a>(
    request: &Completion,
    index: usize,
    item: &'a Item,
    scored: &'a Scored,
    model: &'a ServedModel,
) -> Choice<'a> {
    let output: Vec<u32> = drawn(scored).into_iter().collect();
    let text = model.tokenizer.as_ref().and_then(|tokenizer| tokenizer.decode(&output).ok());
    let rest = item.tokens.iter().skip(1).zip(&scored.positions);
    let lists = rest.map(|(&id, position)| Candidates { id, position, model });
    Choice {
        index,
        text: text.unwrap_or_default(),
        logprobs: None,
        finish_reason: "length",
        stop_reason: None,
        token_ids: request.token_ids.then_some(output),
        prompt_logprobs: request.prompt_logprobs.then(|| BehindNull(lists.collect())),
        prompt_token_ids: request.token_ids.then_some(&item.tokens),
        prompt_logprob_temperature: request.prompt_logprobs.then_some(item.temperature),
    }
}
