use std::path::PathBuf;

use clap::Args;
use opd_train::config::TrainConfig;

use crate::flags::{set, set_some};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model and data")]
pub(super) struct DataFlags {
    /// The student: a Hugging Face model directory (Qwen3, Qwen2 or Llama)
    #[arg(long, value_name = "DIR")]
    hf_checkpoint: Option<PathBuf>,
    /// Prompts to train on: JSONL, one object a line
    #[arg(long, value_name = "FILE")]
    prompt_data: Option<PathBuf>,
    /// Held-out prompts that are answered on the way, to choose settings by
    #[arg(long, value_name = "FILE")]
    validation_prompt_data: Option<PathBuf>,
    /// Held-out prompts of the table before / after / teacher
    #[arg(long, value_name = "FILE")]
    eval_prompt_data: Option<PathBuf>,
    /// Field of the prompt in these files
    #[arg(long, value_name = "KEY")]
    input_key: Option<String>,
    /// Field of the right answer in these files
    #[arg(long, value_name = "KEY")]
    label_key: Option<String>,
}

impl DataFlags {
    pub(super) fn any(&self) -> bool {
        let Self { hf_checkpoint, prompt_data, validation_prompt_data, .. } = self;
        let paths = [hf_checkpoint, prompt_data, validation_prompt_data, &self.eval_prompt_data];
        let keys = [&self.input_key, &self.label_key];
        paths.into_iter().any(Option::is_some) || keys.into_iter().any(Option::is_some)
    }

    pub(super) fn apply(&self, config: &mut TrainConfig) {
        set(&mut config.student.path, &self.hf_checkpoint);
        let data = &mut config.data;
        set(&mut data.train, &self.prompt_data);
        set_some(&mut data.validation, &self.validation_prompt_data);
        set_some(&mut data.test, &self.eval_prompt_data);
        set(&mut data.input_key, &self.input_key);
        set(&mut data.label_key, &self.label_key);
    }
}
