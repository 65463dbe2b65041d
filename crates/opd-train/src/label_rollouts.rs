use opd_batch::{Finish, Rollout};
use opd_models::Tokenizer;
use opd_rollout::Example;

use crate::{Error, Result};

/// The labels of prompts as responses, each followed by `eos`, for losses that learn from given
/// text.
///
/// They are no samples: their log-probs under a sampler are unknown and held at 0, which no loss
/// on labels reads. A label is cut at `longest` tokens. The reward is 0.
pub(crate) fn label_rollouts(
    asked: &[(&Example, &[u32])],
    tokenizer: &Tokenizer,
    eos: Option<u32>,
    longest: usize,
) -> Result<Vec<Rollout>> {
    let rollout = |(group, (example, prompt)): (usize, &(&Example, &[u32]))| {
        let label = example.label.as_deref().filter(|label| !label.is_empty());
        let label = label.ok_or_else(|| Error::NoLabel { prompt: example.prompt.clone() })?;
        let mut response = tokenizer.encode_continuation(label)?;
        response.extend(eos);
        let finish = if response.len() > longest { Finish::Length } else { Finish::Eos };
        response.truncate(longest);
        Ok(Rollout {
            prompt: prompt.to_vec(),
            sampler_logprobs: vec![0.0; response.len()],
            response,
            group: group as u32,
            source: example.source.clone(),
            finish,
            ..Rollout::default()
        })
    };
    asked.iter().enumerate().map(rollout).collect()
}
