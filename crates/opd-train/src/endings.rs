use std::sync::Arc;

use opd_models::Tokenizer;
use opd_rollout::{Sampling, StopStrings, Strategy};

use crate::{Result, config::RolloutConfig};

/// What ends responses before their limit, beside the end tokens of whoever writes them.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    token_ids: Vec<u32>,
    stop: Option<StopStrings>,
}

impl Endings {
    /// The stop strings and stop token ids of a run.
    ///
    /// # Errors
    ///
    /// If a stop string is empty.
    pub fn new(rollout: &RolloutConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let stop = match rollout.stop.is_empty() {
            true => None,
            false => Some(StopStrings::new(rollout.stop.clone(), Arc::new(tokenizer.clone()))?),
        };
        Ok(Self { token_ids: rollout.stop_token_ids.clone(), stop })
    }

    /// The stop strings of a run for a model with another tokenizer, to which the run's token ids
    /// say nothing.
    pub(crate) fn by_text(rollout: &RolloutConfig, tokenizer: &Tokenizer) -> Result<Self> {
        Ok(Self { token_ids: Vec::new(), ..Self::new(rollout, tokenizer)? })
    }

    /// Sampling by a model of these end tokens.
    pub(crate) fn sampling(
        &self,
        strategy: Strategy,
        max_new_tokens: usize,
        eos_token_ids: &[u32],
        seed: u64,
    ) -> Sampling {
        let ends = [eos_token_ids, &self.token_ids].concat();
        let sampling = Sampling::new(strategy, max_new_tokens, &ends);
        Sampling { seed, stop: self.stop.clone(), ..sampling }
    }

    /// A response as it is read and judged: without the stop string that ended it.
    pub(crate) fn read(&self, tokenizer: &Tokenizer, response: &[u32]) -> Result<String> {
        let text = tokenizer.decode(response)?;
        Ok(match &self.stop {
            None => text,
            Some(stop) => stop.trim(&text).to_owned(),
        })
    }
}
