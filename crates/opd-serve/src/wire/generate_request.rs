use serde::{Deserialize, de::IgnoredAny};

use super::{
    numbers::Numbers,
    one_or_many::{OneOrMany, each},
    rules::{Rules, temperature},
    sampling_params::SamplingParams,
};
use crate::{Item, NamedIds, NextToken};

/// The body of SGLang's `/generate`, as sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GenerateRequest {
    text: Option<OneOrMany<String>>,
    input_ids: Option<Numbers>,
    sampling_params: Option<OneOrMany<SamplingParams>>,
    return_logprob: Option<OneOrMany<bool>>,
    logprob_start_len: Option<OneOrMany<i64>>,
    top_logprobs_num: Option<OneOrMany<i64>>,
    token_ids_logprob: Option<Numbers>,
    token_ids_logprob_per_position: Option<Numbers>,
    input_logprob_temperature: Option<OneOrMany<f64>>,
    return_text_in_logprobs: Option<bool>,
    return_flat_raw_top_logprobs: Option<bool>,
    return_prompt_token_ids: Option<bool>,
    rid: Option<OneOrMany<String>>,
    stream: Option<bool>,
    return_hidden_states: Option<bool>,
    input_embeds: Option<IgnoredAny>,
    image_data: Option<IgnoredAny>,
    audio_data: Option<IgnoredAny>,
    video_data: Option<IgnoredAny>,
    lora_path: Option<IgnoredAny>,
    session_params: Option<IgnoredAny>,
    custom_logit_processor: Option<IgnoredAny>,
}

/// A checked `/generate` request.
#[derive(Clone, Debug, PartialEq)]
pub struct Generate {
    /// The sequences.
    pub items: Vec<Item>,
    /// Whether the answer is a list.
    pub is_batch: bool,
    /// How the answer is written.
    pub(crate) form: GenerateForm,
}

/// How the answer to a `/generate` request is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GenerateForm {
    /// By sequence: whether log-probs are returned.
    pub(crate) logprobs: Vec<bool>,
    /// By sequence: the id that the client chose.
    pub(crate) ids: Vec<Option<String>>,
    pub(crate) texts: bool,
    pub(crate) flat_top: bool,
    pub(crate) prompt_ids: bool,
}

impl GenerateRequest {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// Checks what was sent; a bad sequence or id is named by its place.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what was expected.
    pub fn check(
        self,
        rules: &Rules<'_>,
        mut fresh_seed: impl FnMut() -> u64,
    ) -> Result<Generate, String> {
        self.refuse()?;
        let (sequences, is_batch) = sequences(self.input_ids, self.text, rules)?;
        let n = sequences.len();
        let default = SamplingParams::default();
        let sampling = each(self.sampling_params, default, "sampling_params", n, is_batch)?;
        let logprobs = each(self.return_logprob, false, "return_logprob", n, is_batch)?;
        let starts = each(self.logprob_start_len, -1, "logprob_start_len", n, is_batch)?;
        let tops = each(self.top_logprobs_num, 0, "top_logprobs_num", n, is_batch)?;
        let ids = match self.rid {
            None => vec![None; n],
            Some(ids) => ids.each("rid", n, is_batch)?.into_iter().map(Some).collect(),
        };
        let temperatures = match self.input_logprob_temperature {
            None => vec![None; n],
            Some(t) => {
                let each = t.each("input_logprob_temperature", n, is_batch)?;
                each.into_iter().map(Some).collect()
            }
        };
        let same = same_ids(self.token_ids_logprob, rules, n, is_batch)?;
        let lists = lists(self.token_ids_logprob_per_position, n, is_batch)?;
        let mut items = Vec::with_capacity(n);
        let parts = sequences.into_iter().zip(sampling).zip(starts).zip(tops);
        for (i, (((tokens, sampling), start), top)) in parts.enumerate() {
            let name = |field: &str| if is_batch { format!("{field}[{i}]") } else { field.into() };
            let wants = logprobs[i];
            let length = tokens.len();
            let start =
                if wants { start_of(start, length, &name("logprob_start_len"))? } else { length };
            let top = if wants { rules.top(&name("top_logprobs_num"), top)? } else { 0 };
            let n_scored = length.saturating_sub(start + 1);
            let named = match (&same, &lists) {
                _ if !wants => NamedIds::None,
                (Some(_), Some(_)) => {
                    return Err(
                        "token_ids_logprob and token_ids_logprob_per_position: give one of them"
                            .into(),
                    );
                }
                (Some(same), None) => NamedIds::Same(same[i].clone()),
                (None, Some(lists)) => {
                    let field = name("token_ids_logprob_per_position");
                    NamedIds::PerToken(per_token(&lists[i], n_scored, &field, rules)?)
                }
                (None, None) => NamedIds::None,
            };
            let next = match sampling.generates()? {
                true => sampling.next(&mut fresh_seed)?,
                // SGLang has the next position's candidates beside those of the input.
                false if top > 0 || matches!(&named, NamedIds::Same(ids) if !ids.is_empty()) => {
                    NextToken::Distribution
                }
                false => NextToken::Ignored,
            };
            let scoring = match (temperatures[i], sampling.temperature) {
                (Some(t), _) => temperature(&name("input_logprob_temperature"), t)?,
                (None, t) => temperature("temperature", t.unwrap_or(1.0))?,
            };
            items.push(Item { tokens, start, temperature: scoring, top, named, rank: false, next });
        }
        rules.entries(&items)?;
        let form = GenerateForm {
            logprobs,
            ids,
            texts: self.return_text_in_logprobs.unwrap_or(false),
            flat_top: self.return_flat_raw_top_logprobs.unwrap_or(false),
            prompt_ids: self.return_prompt_token_ids.unwrap_or(false),
        };
        Ok(Generate { items, is_batch, form })
    }

    /// Refuses what would change the answer and is not offered.
    fn refuse(&self) -> Result<(), String> {
        let given = [
            ("stream", self.stream == Some(true)),
            ("return_hidden_states", self.return_hidden_states == Some(true)),
            ("input_embeds", self.input_embeds.is_some()),
            ("image_data", self.image_data.is_some()),
            ("audio_data", self.audio_data.is_some()),
            ("video_data", self.video_data.is_some()),
            ("lora_path", self.lora_path.is_some()),
            ("session_params", self.session_params.is_some()),
            ("custom_logit_processor", self.custom_logit_processor.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((field, _)) => {
                Err(format!("{field}: this server scores tokens alone; leave it out"))
            }
        }
    }
}

fn sequences(
    ids: Option<Numbers>,
    text: Option<OneOrMany<String>>,
    rules: &Rules<'_>,
) -> Result<(Vec<Vec<u32>>, bool), String> {
    match (ids, text) {
        (Some(_), Some(_)) => Err("text and input_ids: give one of them".into()),
        (None, None) => Err("Either text or input_ids should be provided.".into()),
        (Some(ids), None) => rules.sequences("input_ids", ids),
        (None, Some(OneOrMany::One(text))) => {
            let one = [("text".to_owned(), text.as_str())];
            Ok((rules.texts("text", one.into_iter(), true)?, false))
        }
        (None, Some(OneOrMany::Many(texts))) => {
            let named = texts.iter().enumerate();
            let named = named.map(|(i, text)| (format!("text[{i}]"), text.as_str()));
            Ok((rules.texts("text", named, true)?, true))
        }
    }
}

/// Where scoring starts: -1 and the length itself mean that nothing is scored.
fn start_of(start: i64, length: usize, field: &str) -> Result<usize, String> {
    match start {
        -1 => Ok(length),
        start => usize::try_from(start).ok().filter(|&start| start <= length).ok_or_else(|| {
            format!("{field}={start}: expected -1, or 0 to the number of input tokens, {length}")
        }),
    }
}

/// `token_ids_logprob` by sequence: one list for all, or one for each of a batch.
fn same_ids(
    ids: Option<Numbers>,
    rules: &Rules<'_>,
    n: usize,
    is_batch: bool,
) -> Result<Option<Vec<Vec<u32>>>, String> {
    const FIELD: &str = "token_ids_logprob";
    match ids {
        None => Ok(None),
        Some(Numbers::Flat(ids)) => Ok(Some(vec![rules.ids(FIELD, ids)?; n])),
        Some(Numbers::Lists(_)) if !is_batch => Err(format!(
            "{FIELD} must be a flat list of integers; token_ids_logprob_per_position takes a list for each position"
        )),
        Some(Numbers::Lists(lists)) if lists.len() != n => {
            Err(format!("{FIELD}: expected {n} lists, one for each sequence, got {}", lists.len()))
        }
        Some(Numbers::Lists(lists)) => {
            let checked = lists.into_iter().enumerate().map(|(i, list)| match list {
                Numbers::Flat(ids) => rules.ids(&format!("{FIELD}[{i}]"), ids),
                Numbers::Lists(_) => Err(format!("{FIELD}[{i}] must be a flat list of integers.")),
            });
            checked.collect::<Result<_, String>>().map(Some)
        }
    }
}

/// `token_ids_logprob_per_position` by sequence.
fn lists(
    lists: Option<Numbers>,
    n: usize,
    is_batch: bool,
) -> Result<Option<Vec<Vec<Numbers>>>, String> {
    const FIELD: &str = "token_ids_logprob_per_position";
    let outer = |list: Numbers, field: &str| match list {
        Numbers::Lists(lists) => Ok(lists),
        Numbers::Flat(ids) if ids.is_empty() => Ok(Vec::new()),
        Numbers::Flat(_) => {
            Err(format!("{field}: expected a list of token ids for each scored token"))
        }
    };
    let Some(list) = lists else { return Ok(None) };
    if !is_batch {
        return Ok(Some(vec![outer(list, FIELD)?]));
    }
    let lists = outer(list, FIELD)?;
    if lists.len() != n {
        let got = lists.len();
        return Err(format!("{FIELD}: expected {n} lists, one for each sequence, got {got}"));
    }
    let each = lists.into_iter().enumerate();
    each.map(|(i, list)| outer(list, &format!("{FIELD}[{i}]"))).collect::<Result<_, _>>().map(Some)
}

fn per_token(
    lists: &[Numbers],
    n_scored: usize,
    field: &str,
    rules: &Rules<'_>,
) -> Result<Vec<Vec<u32>>, String> {
    if lists.len() != n_scored {
        return Err(format!(
            "{field}: expected {n_scored} lists, one for each scored token (those behind logprob_start_len), got {}",
            lists.len()
        ));
    }
    let each = lists.iter().enumerate().map(|(j, list)| match list {
        Numbers::Flat(ids) => rules.ids(&format!("{field}[{j}]"), ids.clone()),
        Numbers::Lists(_) => Err(format!("{field}[{j}] must be a flat list of integers.")),
    });
    each.collect()
}
