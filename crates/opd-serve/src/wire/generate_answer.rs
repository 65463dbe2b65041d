use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{
    answer::{BehindNull, Entries, Entry},
    generate_request::Generate,
};
use crate::{Item, NamedIds, Scored, ServedModel};

/// Who answers, and when the request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) model: &'a ServedModel,
    pub(crate) elapsed: Duration,
}

#[derive(Serialize)]
struct Answer {
    text: String,
    output_ids: Vec<u32>,
    meta_info: MetaInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct FinishReason {
    r#type: &'static str,
    length: usize,
}

#[derive(Serialize)]
struct WeightVersion<'a> {
    version: &'a str,
    start: usize,
    end: usize,
}

#[derive(Serialize)]
struct MetaInfo {
    id: String,
    finish_reason: FinishReason,
    prompt_tokens: usize,
    weight_version: String,
    num_retractions: u32,
    #[serde(flatten)]
    logprobs: Option<Logprobs>,
    reasoning_tokens: u32,
    completion_tokens: usize,
    cached_tokens: usize,
    weight_versions: [serde_json::Value; 1],
    cached_tokens_details: Option<()>,
    dp_rank: Option<()>,
    e2e_latency: f64,
    response_sent_to_client_ts: f64,
}

type Lists = BehindNull<Vec<Entry>>;

#[derive(Serialize)]
struct Logprobs {
    input_logprob_temperature: f32,
    input_token_logprobs: Vec<Entry>,
    output_token_logprobs: Vec<Entry>,
    output_token_logprobs_length: usize,
    #[serde(flatten)]
    top: Option<Top>,
    #[serde(flatten)]
    named: Option<Named>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Top {
    Nested {
        input_top_logprobs: Input,
        output_top_logprobs: Vec<Vec<Entry>>,
    },
    Flat {
        input_top_logprobs_val_flat: Vec<f32>,
        input_top_logprobs_idx_flat: Vec<u32>,
        input_top_logprobs_shape: [usize; 2],
        input_top_logprobs_null_prefix: usize,
        output_top_logprobs: Vec<Vec<Entry>>,
    },
}

#[derive(Serialize)]
struct Named {
    input_token_ids_logprobs: Input,
    output_token_ids_logprobs: Vec<Vec<Entry>>,
}

/// One list for each input token from the start on, the first one null; nothing at all where
/// the start is the end.
#[derive(Serialize)]
#[serde(untagged)]
enum Input {
    Nothing([(); 0]),
    Lists(Lists),
}

impl Input {
    fn of(item: &Item, lists: Vec<Vec<Entry>>) -> Self {
        match item.start < item.tokens.len() {
            true => Self::Lists(BehindNull(lists)),
            false => Self::Nothing([]),
        }
    }
}

/// The body of an answer: an object, or a list of them in the order of the request.
pub(crate) fn generate_answer(
    request: &Generate,
    scored: &[Scored],
    sender: &Sender<'_>,
    mut fresh_id: impl FnMut() -> String,
) -> serde_json::Result<Vec<u8>> {
    let items = request.items.iter().zip(scored).enumerate();
    let answers = items.map(|(i, (item, scored))| {
        let id = request.form.ids[i].clone().unwrap_or_else(&mut fresh_id);
        answer(request, i, id, item, scored, sender)
    });
    let answers: Vec<Answer> = answers.collect();
    match answers.first() {
        Some(only) if !request.is_batch => serde_json::to_vec(only),
        _ => serde_json::to_vec(&answers),
    }
}

fn answer(
    request: &Generate,
    index: usize,
    id: String,
    item: &Item,
    scored: &Scored,
    sender: &Sender<'_>,
) -> Answer {
    let form = &request.form;
    let output: Vec<u32> = scored.next.iter().filter_map(|(id, _)| *id).collect();
    let decoded = sender.model.tokenizer.as_ref().and_then(|t| t.decode(&output).ok());
    let version = &sender.model.weight_version;
    let span = WeightVersion { version, start: 0, end: output.len() };
    let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let meta_info = MetaInfo {
        id,
        finish_reason: FinishReason { r#type: "length", length: output.len() },
        prompt_tokens: item.tokens.len(),
        weight_version: version.clone(),
        num_retractions: 0,
        logprobs: form.logprobs[index].then(|| logprobs(request, item, scored, sender.model)),
        reasoning_tokens: 0,
        completion_tokens: output.len(),
        cached_tokens: scored.shared,
        weight_versions: [serde_json::json!(span)],
        cached_tokens_details: None,
        dp_rank: None,
        e2e_latency: sender.elapsed.as_secs_f64(),
        response_sent_to_client_ts: sent.as_secs_f64(),
    };
    Answer {
        text: decoded.unwrap_or_default(),
        output_ids: output,
        meta_info,
        prompt_token_ids: form.prompt_ids.then(|| item.tokens.clone()),
    }
}

fn logprobs(request: &Generate, item: &Item, scored: &Scored, model: &ServedModel) -> Logprobs {
    let form = &request.form;
    let entries = Entries { model, texts: form.texts };
    let mut input = Vec::with_capacity(scored.positions.len() + 1);
    let behind = item.tokens.get(item.start..).unwrap_or_default();
    input.extend(behind.first().map(|&id| entries.entry(None, id)));
    let rest = behind.iter().skip(1).zip(&scored.positions);
    input.extend(rest.map(|(&id, position)| entries.entry(Some(position.logprob), id)));
    let drawn = scored.next.iter().filter_map(|(id, position)| Some(((*id)?, position.logprob)));
    let output = entries.list(drawn);
    Logprobs {
        input_logprob_temperature: item.temperature,
        input_token_logprobs: input,
        output_token_logprobs_length: output.len(),
        output_token_logprobs: output,
        top: (item.top > 0).then(|| top(item, scored, &entries, form.flat_top)),
        named: (item.named != NamedIds::None).then(|| named(item, scored, &entries)),
    }
}

fn top(item: &Item, scored: &Scored, entries: &Entries<'_>, flat: bool) -> Top {
    let list = |top: &[(u32, f32)]| entries.list(top.iter().copied());
    let output_top_logprobs = scored.next.iter().map(|(_, position)| list(&position.top)).collect();
    if !flat {
        let lists = scored.positions.iter().map(|position| list(&position.top)).collect();
        return Top::Nested { input_top_logprobs: Input::of(item, lists), output_top_logprobs };
    }
    let all = || scored.positions.iter().flat_map(|position| &position.top);
    Top::Flat {
        input_top_logprobs_val_flat: all().map(|(_, logprob)| *logprob).collect(),
        input_top_logprobs_idx_flat: all().map(|(id, _)| *id).collect(),
        input_top_logprobs_shape: [scored.positions.len(), item.top],
        input_top_logprobs_null_prefix: usize::from(item.start < item.tokens.len()),
        output_top_logprobs,
    }
}

fn named(item: &Item, scored: &Scored, entries: &Entries<'_>) -> Named {
    let list = |ids: &[u32], logprobs: &[f32]| {
        entries.list(ids.iter().copied().zip(logprobs.iter().copied()))
    };
    let positions = scored.positions.iter().enumerate();
    let lists = positions.map(|(j, position)| list(item.named_at(j), &position.named)).collect();
    let next = scored.next.iter().filter(|_| !item.named_next().is_empty());
    Named {
        input_token_ids_logprobs: Input::of(item, lists),
        output_token_ids_logprobs: next
            .map(|(_, position)| list(item.named_next(), &position.named))
            .collect(),
    }
}
