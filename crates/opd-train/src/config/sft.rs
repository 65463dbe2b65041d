use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, non_negative},
};

/// Supervised fine-tuning mixed into any loss: `[sft]`.
///
/// ```text
/// loss <- loss + coef * cross-entropy of labels
/// ```
///
/// The cross-entropy is aggregated over its own labels as the loss is over its responses, so that
/// `coef` means the same however many there are of either.
///
/// Source: Gu et al. 2023 (MiniLLM), <https://arxiv.org/abs/2306.08543>, the language-modelling
/// term; Ouyang et al. 2022, <https://arxiv.org/abs/2203.02155>, PPO-ptx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Weight of the cross-entropy; 0 mixes nothing in.
    pub coef: f64,
    /// Labels per step.
    pub prompts: usize,
    /// JSONL file of prompts and labels; without it they are those of `data.train`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self { coef: 0.0, prompts: 32, data: None }
    }
}

impl SftConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        non_negative("sft.coef", self.coef)?;
        at_least_one("sft.prompts", self.prompts as u64)?;
        if self.coef == 0.0 && self.data.is_some() {
            return Err(ConfigError::Conflict {
                what: "sft.data is named and sft.coef is 0: it would not be learned from".into(),
                remedy: "set --sft-coef above 0, or drop --sft-data",
            });
        }
        Ok(())
    }
}
