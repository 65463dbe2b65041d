use clap::Args;
use opd_train::config::EvaluationConfig;

use crate::flags::{set, set_some};

#[derive(Args, Clone, Debug)]
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

impl EvaluationFlags {
    pub(super) fn apply(&self, evaluation: &mut EvaluationConfig) {
        set(&mut evaluation.interval, &self.eval_interval);
        set(&mut evaluation.validation_prompts, &self.validation_prompts);
        set_some(&mut evaluation.test_prompts, &self.eval_prompts);
        set(&mut evaluation.samples_per_prompt, &self.n_samples_per_eval_prompt);
        set(&mut evaluation.temperature, &self.eval_temperature);
        set(&mut evaluation.teacher, &self.eval_teacher);
    }
}
