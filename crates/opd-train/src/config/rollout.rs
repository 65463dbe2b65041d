use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, check},
};

/// Whose responses are trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseSource {
    /// The student's own, sampled at each step.
    #[default]
    Student,
    /// The labels of the prompt file, each once per step that takes its prompt.
    Label,
}

/// How the student is sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Whose responses are trained on.
    pub responses: ResponseSource,
    /// Prompts per step.
    pub prompts: usize,
    /// Responses per prompt: a group.
    pub samples_per_prompt: usize,
    /// Longest response, in tokens.
    pub max_response_tokens: usize,
    /// Sampling temperature; also that of the loss and of the teacher's scores.
    pub temperature: f64,
    /// Draw only from the likeliest `k`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Draw only from the likeliest that together reach this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Sequences sampled side by side.
    pub max_sequences: usize,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            responses: ResponseSource::Student,
            prompts: 32,
            samples_per_prompt: 8,
            max_response_tokens: 256,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            max_sequences: 256,
        }
    }
}

impl RolloutConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("rollout.prompts", self.prompts as u64)?;
        at_least_one("rollout.samples_per_prompt", self.samples_per_prompt as u64)?;
        at_least_one("rollout.max_response_tokens", self.max_response_tokens as u64)?;
        at_least_one("rollout.max_sequences", self.max_sequences as u64)?;
        let t = self.temperature;
        check(t > 0.0 && t.is_finite(), "rollout.temperature", "finite and above 0", t)?;
        if let Some(k) = self.top_k {
            at_least_one("rollout.top_k", k as u64)?;
        }
        if let Some(p) = self.top_p {
            check(p > 0.0 && p <= 1.0, "rollout.top_p", "above 0 and at most 1", p)?;
        }
        Ok(())
    }
}
