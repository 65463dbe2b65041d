use std::path::Path;

use opd_batch::Source;
use opd_models::{ChatTemplate, Message, ModelConfig, Tokenizer};
use opd_rollout::{Example, Fields, PromptSet};

use crate::{Error, Result};

/// A prompt file and the token ids of each prompt.
#[derive(Clone, Debug)]
pub struct TokenizedPrompts {
    set: PromptSet,
    tokens: Vec<Vec<u32>>,
}

impl TokenizedPrompts {
    /// Reads and tokenises a JSONL file; every prompt must leave room for `response` tokens.
    ///
    /// # Errors
    ///
    /// Those of [`PromptSet::from_jsonl`]; [`Error::PromptTooLong`].
    pub fn load(
        path: &Path,
        fields: &Fields,
        tokenizer: &Tokenizer,
        model: &ModelConfig,
        response: usize,
    ) -> Result<Self> {
        Self::read(path, fields, model, response, |index, example| {
            if !example.messages.is_empty() {
                let path = path.to_owned();
                return Err(Error::Conversation { path, index });
            }
            Ok(tokenizer.encode(&example.prompt)?)
        })
    }

    /// The same with prompts that `template` writes: lists of messages as they are, texts as a
    /// user's first message. Special tokens are the template's own.
    ///
    /// # Errors
    ///
    /// Those of [`Self::load`] and of [`ChatTemplate::render`].
    pub fn load_chat(
        path: &Path,
        fields: &Fields,
        (tokenizer, template): (&Tokenizer, &ChatTemplate),
        model: &ModelConfig,
        response: usize,
    ) -> Result<Self> {
        Self::read(path, fields, model, response, |_, example| {
            let text = match example.messages.as_slice() {
                [] => template.render(&[Message::user(&example.prompt)])?,
                messages => template.render(messages)?,
            };
            Ok(tokenizer.encode_continuation(&text)?)
        })
    }

    fn read(
        path: &Path,
        fields: &Fields,
        model: &ModelConfig,
        response: usize,
        encode: impl Fn(usize, &Example) -> Result<Vec<u32>>,
    ) -> Result<Self> {
        let set = PromptSet::from_jsonl(path, fields)?;
        let mut tokens = Vec::with_capacity(set.examples().len());
        for (index, example) in set.examples().iter().enumerate() {
            let ids = encode(index, example)?;
            if ids.is_empty() {
                return Err(opd_rollout::Error::EmptyPrompt { index }.into());
            }
            let (length, context) = (ids.len(), model.context);
            if length + response > context {
                let path = path.to_owned();
                return Err(Error::PromptTooLong { path, index, length, response, context });
            }
            tokens.push(ids);
        }
        Ok(Self { set, tokens })
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// A prompt and its token ids, or `None` beyond the last.
    pub fn get(&self, index: usize) -> Option<(&Example, &[u32])> {
        Some((self.set.examples().get(index)?, self.tokens.get(index)?))
    }

    /// Where the prompts come from, one for each.
    pub fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        self.set.examples().iter().map(|example| example.source.clone())
    }

    /// Which prompts step `step` (from 0) takes.
    pub fn batch(&self, seed: u64, step: u64, n: usize) -> Vec<usize> {
        self.set.batch(seed, step, n)
    }

    /// The same in the order of the file.
    pub fn in_order(&self, step: u64, n: usize) -> Vec<usize> {
        self.set.in_order(step, n)
    }

    /// Tokens of the longest prompt.
    pub fn longest(&self) -> usize {
        self.tokens.iter().map(Vec::len).max().unwrap_or(0)
    }
}
