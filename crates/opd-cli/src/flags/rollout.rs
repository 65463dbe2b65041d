use clap::Args;
use opd_train::config::{MixBy, ResponseSource, RolloutConfig};

use crate::{
    config::choices,
    flags::{positive, set, set_some},
};

#[derive(Args, Clone, Debug)]
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
        set(&mut rollout.mix.student, &self.mix_student);
        set(&mut rollout.mix.label, &self.mix_label);
        set(&mut rollout.mix.teacher, &self.mix_teacher);
        set(&mut rollout.mix.by, &self.mix_by);
        set(&mut rollout.teacher_temperature, &self.teacher_temperature);
        set(&mut rollout.teacher_mixed_alpha, &self.teacher_mixed_alpha);
        set(&mut rollout.prompts, &self.rollout_batch_size);
        set(&mut rollout.samples_per_prompt, &self.n_samples_per_prompt);
        set(&mut rollout.max_response_tokens, &self.rollout_max_response_len);
        set(&mut rollout.temperature, &self.rollout_temperature);
        set_some(&mut rollout.top_p, &self.rollout_top_p);
        set_some(&mut rollout.top_k, &self.rollout_top_k);
        set(&mut rollout.max_sequences, &self.rollout_max_sequences);
    }
}
