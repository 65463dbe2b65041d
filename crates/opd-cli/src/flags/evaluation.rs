use clap::{Args, value_parser};
use serde::Serialize;

use crate::flags::positive;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Evaluation")]
pub(super) struct EvaluationFlags {
    /// Steps between evaluations on the validation prompts; 0 for none
    #[arg(long, value_name = "N")]
    eval_interval: Option<u64>,
    /// Prompts of each evaluation on the way
    #[arg(long, value_name = "N")]
    validation_prompts: Option<usize>,
    /// Prompts of the table, from the start of --eval-prompt-data; all of them without
    #[arg(long, value_name = "N")]
    eval_prompts: Option<usize>,
    /// Answers per prompt of an evaluation
    #[arg(long, value_name = "N")]
    n_samples_per_eval_prompt: Option<usize>,
    /// Temperature of evaluations; 0 is greedy
    #[arg(long, value_name = "T")]
    eval_temperature: Option<f64>,
    /// Draw evaluations only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", value_parser = positive)]
    eval_top_p: Option<f64>,
    /// Draw evaluations only from the K likeliest tokens; -1 draws from all
    #[arg(long, value_name = "K", value_parser = value_parser!(i64).range(-1..))]
    eval_top_k: Option<i64>,
    /// Longest answer of an evaluation, in tokens; --rollout-max-response-len without
    #[arg(long, value_name = "TOKENS")]
    eval_max_response_len: Option<usize>,
    /// Evaluate the teacher, too
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    eval_teacher: Option<bool>,
}
