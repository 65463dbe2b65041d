use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The model that is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StudentConfig {
    /// A Hugging Face directory.
    pub path: PathBuf,
}

impl StudentConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.path.as_os_str().is_empty() {
            let remedy = "name the student's model directory with --hf-checkpoint DIR";
            return Err(ConfigError::Missing { key: "student.path", remedy });
        }
        Ok(())
    }
}
