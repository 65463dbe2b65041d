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
    /// Bytes of one weight file, beyond which weights are cut into several.
    pub max_shard_bytes: u64,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { interval: 50, keep_last: 2, max_shard_bytes: opd_models::SHARD_BYTES }
    }
}

impl CheckpointConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("checkpoints.keep_last", self.keep_last as u64)?;
        at_least_one("checkpoints.max_shard_bytes", self.max_shard_bytes)
    }
}
