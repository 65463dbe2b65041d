use std::path::PathBuf;

use clap::Args;
use opd_data::BadRows;
use opd_train::config::RewardKind;
use serde::Serialize;

use crate::config::choices;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Model and data")]
pub(super) struct DataFlags {
    /// The student: a Hugging Face model directory, a GGUF file, or a name on the hub
    /// (ORGANISATION/NAME[@REVISION])
    #[arg(long, value_name = "MODEL")]
    hf_checkpoint: Option<PathBuf>,
    /// The policy that every KL to the start policy compares with; the student before training
    /// without
    #[arg(long, value_name = "DIR")]
    ref_load: Option<PathBuf>,
    /// Prompts to train on: JSONL, one object a line, or Parquet; FILE@[a:b] takes rows a (from 0)
    /// up to b. May be given several times: the files are read one after another as one data set
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompt_data: Vec<PathBuf>,
    /// Held-out prompts that are answered on the way, to choose settings by
    #[arg(long, value_name = "FILE")]
    validation_prompt_data: Option<PathBuf>,
    /// Held-out prompts of the table before / after / teacher
    #[arg(long, value_name = "FILE")]
    eval_prompt_data: Option<PathBuf>,
    /// Further held-out prompts that are answered on the way; may be given several times. The
    /// file's name without its ending names its metrics
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    eval_set: Vec<PathBuf>,
    /// Field of the prompt in these files; a.b is field b of the object a
    #[arg(long, value_name = "KEY")]
    input_key: Option<String>,
    /// Field of the right answer in these files
    #[arg(long, value_name = "KEY")]
    label_key: Option<String>,
    /// Field of the tools that the chat template is given
    #[arg(long, value_name = "KEY")]
    tool_key: Option<String>,
    /// Variables of the chat template, as '{"enable_thinking": false}'
    #[arg(long, value_name = "JSON")]
    apply_chat_template_kwargs: Option<String>,
    /// Leave out prompts with more tokens
    #[arg(long, value_name = "TOKENS")]
    rollout_max_prompt_len: Option<usize>,
    /// What becomes of rows that cannot be used: an error, or left out, counted and reported
    #[arg(long, value_name = "WHAT", value_parser = choices::<BadRows>())]
    bad_rows: Option<BadRows>,
    /// Write prompts into the student's chat template, as a user's first message unless they are
    /// lists of messages
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    apply_chat_template: Option<bool>,
    /// The rule that judges answers by the right one
    #[arg(long, value_name = "NAME", value_parser = choices::<RewardKind>())]
    rm_type: Option<RewardKind>,
    /// Regular expression of --rm-type regex; its group named answer, if it has one, must hold
    /// the right answer
    #[arg(long, value_name = "REGEX")]
    rm_pattern: Option<String>,
    /// Server of --rm-type remote_rm: the whole address that answers are posted to; may be given
    /// several times
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reward_url: Vec<String>,
    /// Environment variable of that server's bearer key
    #[arg(long, value_name = "NAME")]
    reward_api_key_env: Option<String>,
    /// File of that server's bearer key
    #[arg(long, value_name = "FILE")]
    reward_api_key_file: Option<PathBuf>,
}
