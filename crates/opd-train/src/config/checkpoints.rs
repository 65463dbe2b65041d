use serde::{Deserialize, Serialize};

use super::{ConfigError, error::at_least_one};

/// What is kept on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0 for none but the last.
    pub interval: u64,
    /// Checkpoints kept beside the best.
    pub keep_last: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { interval: 50, keep_last: 2 }
    }
}

impl CheckpointConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("checkpoints.keep_last", self.keep_last as u64)
    }
}
