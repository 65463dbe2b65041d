use clap::{Args, value_parser};
use opd_train::config::{MixBy, ResponseSource};
use serde::Serialize;

use crate::{config::choices, flags::positive};

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Rollout")]
pub(super) struct RolloutFlags {
    /// Whose answers are trained on: the student's own, the labels of --prompt-data, the
    /// teacher's own (which needs one in this process), or mixed in the shares of --mix-student,
    /// --mix-label and --mix-teacher
    #[arg(long, value_name = "WHOSE", value_parser = choices::<ResponseSource>())]
    responses: Option<ResponseSource>,
    /// Share of the student's answers among mixed ones: GKD's lambda
    #[arg(long, value_name = "X")]
    mix_student: Option<f64>,
    /// Share of the labels among mixed answers
    #[arg(long, value_name = "X")]
    mix_label: Option<f64>,
    /// Share of the teacher's answers among mixed ones
    #[arg(long, value_name = "X")]
    mix_teacher: Option<f64>,
    /// What one draw of an author is for: the answers to a prompt, or a whole batch
    #[arg(long, value_name = "WHAT", value_parser = choices::<MixBy>())]
    mix_by: Option<MixBy>,
    /// Temperature at which the teacher writes answers; 0 is greedy
    #[arg(long, value_name = "T")]
    teacher_temperature: Option<f64>,
    /// The teacher's share in every token that the student samples: MiniLLM's teacher-mixed
    /// sampling, 0.2 in its source
    #[arg(long, value_name = "X")]
    teacher_mixed_alpha: Option<f64>,
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
    /// Draw only from the K likeliest tokens; -1 draws from all
    #[arg(long, value_name = "K", value_parser = value_parser!(i64).range(-1..))]
    rollout_top_k: Option<i64>,
    /// Draw only from tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P")]
    rollout_min_p: Option<f64>,
    /// Divide the positive logits, and multiply the negative ones, of tokens that the prompt or the
    /// answer has already; 1 for none
    #[arg(long, value_name = "X", value_parser = positive)]
    rollout_repetition_penalty: Option<f64>,
    /// Texts that end an answer; its reward is of what stands before
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    rollout_stop: Vec<String>,
    /// Token ids that end an answer, beside those of generation_config.json
    #[arg(long, value_name = "ID", num_args = 1..)]
    rollout_stop_token_ids: Vec<u32>,
    /// Answers written side by side; bounds the memory of keys and values
    #[arg(long, value_name = "N")]
    rollout_max_sequences: Option<usize>,
    /// Hold a second copy of the weights while answers are written, which is faster; the answers
    /// are the same
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    rollout_packed_weights: Option<bool>,
    /// Take the prompts of each pass in a random order of its own, and not in the file's
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    rollout_shuffle: Option<bool>,
    /// Keep the rollouts of every N-th step, with scores and advantages, in
    /// rollouts/step-N.jsonl; without =N those of every step
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1"
    )]
    dump_rollouts: Option<u64>,
}
