use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, LoraConfig};

/// The model that is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StudentConfig {
    /// A Hugging Face directory.
    pub path: PathBuf,
    /// The policy that extrapolation and every KL to the start policy compare with, a Hugging
    /// Face directory of the same tokenizer; the student before training without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// Trains adapters instead of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
}

impl StudentConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.path.as_os_str().is_empty() {
            let remedy = "name the student's model directory with --hf-checkpoint DIR";
            return Err(ConfigError::Missing { key: "student.path", remedy });
        }
        self.lora.as_ref().map_or(Ok(()), LoraConfig::validate)
    }
}
