use serde::{Deserialize, de::IgnoredAny};

use super::{
    numbers::Numbers,
    prompt::Prompt,
    rules::{Rules, temperature},
    sampling_params::choice,
};
use crate::{Item, NamedIds, NextToken};

/// The body of `/v1/completions`, as sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CompletionRequest {
    model: Option<String>,
    prompt: Option<Prompt>,
    max_tokens: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    seed: Option<i64>,
    prompt_logprobs: Option<i64>,
    return_token_ids: Option<bool>,
    add_special_tokens: Option<bool>,
    logprobs: Option<i64>,
    n: Option<i64>,
    best_of: Option<i64>,
    stream: Option<bool>,
    echo: Option<bool>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    suffix: Option<IgnoredAny>,
    logit_bias: Option<IgnoredAny>,
    response_format: Option<IgnoredAny>,
    structured_outputs: Option<IgnoredAny>,
    prompt_embeds: Option<IgnoredAny>,
}

/// A checked completion request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The prompts.
    pub items: Vec<Item>,
    /// Whether log-probs of the prompt are returned.
    pub(crate) prompt_logprobs: bool,
    pub(crate) token_ids: bool,
}

impl CompletionRequest {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// The model that is asked for, if one is.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Checks what was sent; a bad prompt or id is named by its place.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and what was expected.
    pub fn check(
        self,
        rules: &Rules<'_>,
        mut fresh_seed: impl FnMut() -> u64,
    ) -> Result<Completion, String> {
        self.refuse()?;
        let generates = match self.max_tokens {
            Some(0) => false,
            Some(1) => true,
            other => {
                let got = other.map_or("none, which means 16".into(), |n: i64| n.to_string());
                return Err(format!(
                    "max_tokens: this server scores and generates at most one token; expected 0 or 1, got {got}"
                ));
            }
        };
        let (top, wants) = match self.prompt_logprobs {
            None => (0, false),
            Some(-1) => (rules.vocab, true),
            Some(k) => (rules.top("prompt_logprobs", k)?, true),
        };
        let scoring = temperature("temperature", self.temperature.unwrap_or(1.0))?;
        let special = self.add_special_tokens.unwrap_or(true);
        let sequences = match self.prompt {
            None => return Err("prompt is missing".into()),
            Some(Prompt::Text(text)) => rules.texts(
                "prompt",
                [("prompt".to_owned(), text.as_str())].into_iter(),
                special,
            )?,
            Some(Prompt::Texts(texts)) => {
                let named = texts.iter().enumerate();
                let named = named.map(|(i, text)| (format!("prompt[{i}]"), text.as_str()));
                rules.texts("prompt", named, special)?
            }
            Some(Prompt::Ids(Numbers::Flat(ids))) if ids.is_empty() => {
                return Err("prompt is empty; send at least one token".into());
            }
            Some(Prompt::Ids(ids)) => rules.sequences("prompt", ids)?.0,
        };
        let mut items = Vec::with_capacity(sequences.len());
        for (i, tokens) in sequences.into_iter().enumerate() {
            let seed = match self.seed {
                Some(seed) => (seed as u64).wrapping_add(i as u64),
                None => fresh_seed(),
            };
            let next = match generates {
                true => choice(self.temperature, self.top_k, self.top_p, self.min_p, seed)?,
                false => NextToken::Ignored,
            };
            let start = if wants { 0 } else { tokens.len() };
            let (temperature, named) = (scoring, NamedIds::None);
            items.push(Item { tokens, start, temperature, top, named, rank: wants, next });
        }
        rules.entries(&items)?;
        let token_ids = self.return_token_ids.unwrap_or(false);
        Ok(Completion { items, prompt_logprobs: wants, token_ids })
    }

    fn refuse(&self) -> Result<(), String> {
        let given = [
            ("stream", self.stream == Some(true)),
            ("echo", self.echo == Some(true)),
            ("logprobs", self.logprobs.is_some()),
            ("n", self.n.is_some_and(|n| n != 1)),
            ("best_of", self.best_of.is_some_and(|n| n != 1)),
            ("frequency_penalty", self.frequency_penalty.is_some_and(|x| x != 0.0)),
            ("presence_penalty", self.presence_penalty.is_some_and(|x| x != 0.0)),
            ("repetition_penalty", self.repetition_penalty.is_some_and(|x| x != 1.0)),
            ("suffix", self.suffix.is_some()),
            ("logit_bias", self.logit_bias.is_some()),
            ("response_format", self.response_format.is_some()),
            ("structured_outputs", self.structured_outputs.is_some()),
            ("prompt_embeds", self.prompt_embeds.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((field, _)) => Err(format!(
                "{field}: this server scores prompts (prompt_logprobs) alone; leave it out"
            )),
        }
    }
}
