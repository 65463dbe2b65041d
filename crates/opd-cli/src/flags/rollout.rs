use clap::Args;
use opd_train::config::{ResponseSource, RolloutConfig};

use crate::{
    config::choices,
    flags::{positive, set, set_some},
};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rollout")]
pub(super) struct RolloutFlags {
    /// Whose answers are trained on: the student's own, or the labels of --prompt-data
    #[arg(long, value_name = "WHOSE", value_parser = choices::<ResponseSource>())]
    responses: Option<ResponseSource>,
    /// Prompts per step
    #[arg(long, value_name = "N")]
    rollout_batch_size: Option<usize>,
    /// Answers that the student writes to each prompt
    #[arg(long, value_name = "N")]
    n_samples_per_prompt: Option<usize>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS")]
    rollout_max_response_len: Option<usize>,
    /// Sampling temperature; also that of the loss and of the teacher's scores
    #[arg(long, value_name = "T", value_parser = positive)]
    rollout_temperature: Option<f64>,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", value_parser = positive)]
    rollout_top_p: Option<f64>,
    /// Draw only from the K likeliest tokens
    #[arg(long, value_name = "K")]
    rollout_top_k: Option<usize>,
    /// Answers written side by side; bounds the memory of keys and values
    #[arg(long, value_name = "N")]
    rollout_max_sequences: Option<usize>,
}

impl RolloutFlags {
    pub(super) fn apply(&self, rollout: &mut RolloutConfig) {
        set(&mut rollout.responses, &self.responses);
        set(&mut rollout.prompts, &self.rollout_batch_size);
        set(&mut rollout.samples_per_prompt, &self.n_samples_per_prompt);
        set(&mut rollout.max_response_tokens, &self.rollout_max_response_len);
        set(&mut rollout.temperature, &self.rollout_temperature);
        set_some(&mut rollout.top_p, &self.rollout_top_p);
        set_some(&mut rollout.top_k, &self.rollout_top_k);
        set(&mut rollout.max_sequences, &self.rollout_max_sequences);
    }
}
