use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Prompt files: JSONL, one object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Prompts that the student is trained on.
    pub train: PathBuf,
    /// Held-out prompts of the before / after / teacher table; none is evaluated without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Held-out prompts evaluated during training; none is evaluated without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Field of the prompt.
    pub input_key: String,
    /// Field of the right answer.
    pub label_key: String,
    /// Whether prompts are written into the student's chat template.
    pub chat_template: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: PathBuf::new(),
            test: None,
            validation: None,
            input_key: "prompt".into(),
            label_key: "label".into(),
            chat_template: false,
        }
    }
}

impl DataConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.train.as_os_str().is_empty() {
            let remedy = "name a JSONL file of prompts with --prompt-data FILE";
            return Err(ConfigError::Missing { key: "data.train", remedy });
        }
        Ok(())
    }
}
