use opd_models::{ModelConfig, Tokenizer};

use super::numbers::Numbers;
use crate::{Item, Limits};

/// What a request must keep to: sizes of the model, limits of the server.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Token ids are below it.
    pub vocab: usize,
    /// Longest sequence.
    pub context: usize,
    /// What a request may ask for.
    pub limits: Limits,
    /// For texts; without it they are refused.
    pub tokenizer: Option<&'a Tokenizer>,
}

impl<'a> Rules<'a> {
    /// The rules of a model.
    pub fn new(config: &ModelConfig, limits: Limits, tokenizer: Option<&'a Tokenizer>) -> Self {
        Self { vocab: config.vocab_size, context: config.context, limits, tokenizer }
    }

    /// Sequences of ids, and whether there may be several; a bad one is named.
    pub(crate) fn sequences(
        &self,
        field: &str,
        ids: Numbers,
    ) -> Result<(Vec<Vec<u32>>, bool), String> {
        match ids {
            Numbers::Flat(ids) => {
                let sequence = self.ids(field, ids)?;
                self.length(field, sequence.len())?;
                Ok((vec![sequence], false))
            }
            Numbers::Lists(lists) => {
                self.count(field, lists.len())?;
                let sequences = lists.into_iter().enumerate().map(|(item, list)| {
                    let field = format!("{field}[{item}]");
                    let Numbers::Flat(ids) = list else {
                        return Err(format!("{field}: expected token ids, got a list of lists"));
                    };
                    let sequence = self.ids(&field, ids)?;
                    self.length(&field, sequence.len())?;
                    Ok(sequence)
                });
                Ok((sequences.collect::<Result<_, String>>()?, true))
            }
        }
    }

    /// Sequences of texts.
    pub(crate) fn texts<'t>(
        &self,
        field: &str,
        texts: impl ExactSizeIterator<Item = (String, &'t str)>,
        special_tokens: bool,
    ) -> Result<Vec<Vec<u32>>, String> {
        self.count(field, texts.len())?;
        let Some(tokenizer) = self.tokenizer else {
            return Err(format!(
                "{field}: the model's directory has no tokenizer.json; send token ids"
            ));
        };
        let sequences = texts.map(|(field, text)| {
            let encode = match special_tokens {
                true => tokenizer.encode(text),
                false => tokenizer.encode_continuation(text),
            };
            let ids = encode.map_err(|error| format!("{field}: {error}"))?;
            let ids = self.ids(&field, ids.into_iter().map(i64::from).collect())?;
            self.length(&field, ids.len())?;
            Ok(ids)
        });
        sequences.collect()
    }

    /// Ids within the vocabulary; the first one outside is named.
    pub(crate) fn ids(&self, field: &str, ids: Vec<i64>) -> Result<Vec<u32>, String> {
        let vocab = self.vocab;
        let ids = ids.into_iter().enumerate().map(|(place, id)| {
            u32::try_from(id).ok().filter(|&id| (id as usize) < vocab).ok_or_else(|| {
                format!(
                    "{field}: token id {id} at place {place} is outside the vocabulary; valid ids are 0 to {}",
                    vocab.saturating_sub(1)
                )
            })
        });
        ids.collect()
    }

    fn length(&self, field: &str, length: usize) -> Result<(), String> {
        let context = self.context;
        match length {
            0 => Err(format!("{field} is empty; a sequence needs at least one token")),
            n if n > context => Err(format!(
                "{field}: the input ({n} tokens) is longer than the model's context length ({context} tokens)"
            )),
            _ => Ok(()),
        }
    }

    fn count(&self, field: &str, n: usize) -> Result<(), String> {
        let most = self.limits.max_sequences;
        match n {
            0 => Err(format!("{field} is empty; send at least one sequence")),
            n if n > most => {
                Err(format!("{field}: {n} sequences, a request may have {most}; send several"))
            }
            _ => Ok(()),
        }
    }

    /// How many likeliest ids, from a number that must be `0 ..= vocabulary`.
    pub(crate) fn top(&self, field: &str, k: i64) -> Result<usize, String> {
        usize::try_from(k).ok().filter(|&k| k <= self.vocab).ok_or_else(|| {
            format!("{field} must be from 0 to the vocabulary of {}, got {k}", self.vocab)
        })
    }

    /// Passes if the answer to `items` has at most as many entries as the limits allow.
    pub(crate) fn entries(&self, items: &[Item]) -> Result<(), String> {
        let of = |item: &Item| -> usize {
            let named: usize = match &item.named {
                crate::NamedIds::PerToken(lists) => lists.iter().map(Vec::len).sum(),
                _ => item.named_next().len().saturating_mul(item.n_scored() + 1),
            };
            (item.n_scored() + 1).saturating_mul(1 + item.top).saturating_add(named)
        };
        let entries = items.iter().fold(0usize, |sum, item| sum.saturating_add(of(item)));
        let most = self.limits.max_entries;
        if entries <= most {
            return Ok(());
        }
        Err(format!(
            "the answer would have {entries} log-probs, a request may ask for {most}; send fewer sequences or ask for fewer ids"
        ))
    }
}

/// A softmax's temperature, in the precision that the `Teacher` trait has; 0 (greedy) counts as 1, which is what SGLang and vLLM score at.
pub(crate) fn temperature(field: &str, value: f64) -> Result<f32, String> {
    if !(value >= 0.0 && (value as f32).is_finite()) {
        return Err(format!("{field} must be a non-negative finite number, got {value}."));
    }
    Ok(if value < GREEDY { 1.0 } else { value as f32 })
}

/// Temperatures below it mean the likeliest token.
pub(crate) const GREEDY: f64 = 1e-6;
