use opd_batch::{Author, Finish, Rollout};
use opd_models::Tokenizer;

use crate::{Error, Prompt, Result, Written};

/// What turns labels into responses.
pub(crate) struct Labels<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// Follows every label.
    pub(crate) eos: Option<u32>,
    /// A label is cut at this many tokens.
    pub(crate) longest: usize,
}

impl Labels<'_> {
    /// The label of a prompt as response, or the answers of its conversation, for losses that learn
    /// from given text.
    ///
    /// It is no sample: its log-probs under a sampler are unknown and held at 0, which no loss on
    /// labels reads. The reward is 0.
    pub(crate) fn rollout(&self, group: u32, prompt: &Prompt) -> Result<Rollout> {
        let Prompt { example, tokens, written, .. } = prompt;
        let (mut response, mut loss_mask) = match written {
            Some(Written { response, mask }) => (response.clone(), Some(mask.clone())),
            None => {
                let label = example.label.as_deref().filter(|label| !label.is_empty());
                let none = || Error::NoLabel { prompt: example.prompt.clone() };
                let mut response = self.tokenizer.encode_continuation(label.ok_or_else(none)?)?;
                response.extend(self.eos);
                (response, None)
            }
        };
        if let Some(mask) = &mut loss_mask {
            mask.truncate(self.longest);
        }
        let finish = if response.len() > self.longest { Finish::Length } else { Finish::Eos };
        response.truncate(self.longest);
        Ok(Rollout {
            prompt: tokens.clone(),
            loss_mask,
            sampler_logprobs: vec![0.0; response.len()],
            response,
            group,
            source: example.source.clone(),
            finish,
            author: Author::Label,
            ..Rollout::default()
        })
    }
}
