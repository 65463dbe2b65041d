use std::path::Path;

use opd_batch::Source;
use opd_models::{ChatTemplate, Message, ModelConfig, Tokenizer};
use opd_rollout::{Example, Fields, PromptSet};

use crate::{Error, Result, teacher_prompts::teacher_prompt};

/// A prompt file and the token ids of each prompt.
#[derive(Clone, Debug)]
pub struct TokenizedPrompts {
    set: PromptSet,
    tokens: Vec<Vec<u32>>,
    /// What the teacher is asked instead, where it is told more.
    teacher_tokens: Vec<Option<Vec<u32>>>,
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
        let teacher_tokens = vec![None; tokens.len()];
        Ok(Self { set, tokens, teacher_tokens })
    }

    /// Tokenises what the teacher is asked in place of each prompt: the examples' own
    /// [`teacher_prompt`](Example::teacher_prompt), or `template` with their prompts and labels
    /// in place of `{prompt}` and `{label}`. A chat template writes it in place of a
    /// conversation's last message.
    ///
    /// An example that lacks what is needed is an error where it is `required`, and elsewhere
    /// asks the teacher what the student is asked.
    ///
    /// # Errors
    ///
    /// [`Error::NoTeacherPrompt`]; those of the tokenizer and the chat template.
    pub fn with_teacher_prompts(
        mut self,
        template: Option<&str>,
        (tokenizer, chat): (&Tokenizer, Option<&ChatTemplate>),
        required: bool,
    ) -> Result<Self> {
        for (example, tokens) in self.set.examples().iter().zip(&mut self.teacher_tokens) {
            let text = teacher_prompt(example, template);
            if required && text.is_none() {
                return Err(Error::NoTeacherPrompt { prompt: example.prompt.clone() });
            }
            let encode = |text: String| match chat {
                None => Ok(tokenizer.encode(&text)?),
                Some(chat) => {
                    let before = example.messages.split_last().map_or(&[][..], |(_, rest)| rest);
                    let messages = [before, &[Message::user(&text)]].concat();
                    Ok(tokenizer.encode_continuation(&chat.render(&messages)?)?)
                }
            };
            let ids: Option<Vec<u32>> = text.map(encode).transpose().map_err(|e: Error| e)?;
            *tokens = ids.filter(|ids| !ids.is_empty());
        }
        Ok(self)
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

    /// Token ids that the teacher is asked, where these are others than the student's.
    pub fn teacher_prompt(&self, index: usize) -> Option<&[u32]> {
        self.teacher_tokens.get(index)?.as_deref()
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

    /// Tokens of the longest prompt, the teacher's included.
    pub fn longest(&self) -> usize {
        let teachers = self.teacher_tokens.iter().flatten();
        self.tokens.iter().chain(teachers).map(Vec::len).max().unwrap_or(0)
    }
}
