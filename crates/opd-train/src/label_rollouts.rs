use opd_batch::{Author, Finish, Rollout};
use opd_models::Tokenizer;
use opd_rollout::Example;

use crate::{Error, Result};

/// What turns labels into responses.
pub(crate) struct Labels<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// Follows every label.
    pub(crate) eos: Option<u32>,
    /// A label is cut at this many tokens.
    pub(crate) longest: usize,
}

impl Labels<'_> {
    /// The label of a prompt as response, for losses that learn from given text.
    ///
    /// It is no sample: its log-probs under a sampler are unknown and held at 0, which no loss on
    /// labels reads. The reward is 0.
    pub(crate) fn rollout(
        &self,
        group: u32,
        (example, prompt): (&Example, &[u32]),
    ) -> Result<Rollout> {
        let label = example.label.as_deref().filter(|label| !label.is_empty());
        let label = label.ok_or_else(|| Error::NoLabel { prompt: example.prompt.clone() })?;
        let mut response = self.tokenizer.encode_continuation(label)?;
        response.extend(self.eos);
        let finish = if response.len() > self.longest { Finish::Length } else { Finish::Eos };
        response.truncate(self.longest);
        Ok(Rollout {
            prompt: prompt.to_vec(),
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
