use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, check},
};

/// Evaluation on held-out prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Steps between evaluations on the validation prompts; 0 for none.
    pub interval: u64,
    /// Prompts of the table, from the test file; all of them without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_prompts: Option<usize>,
    /// Prompts of each evaluation on the way, from the validation file.
    pub validation_prompts: usize,
    /// Answers per prompt.
    pub samples_per_prompt: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Draw only from the likeliest `k`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Draw only from the likeliest that together reach this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Longest answer, in tokens; that of `[rollout]` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_response_tokens: Option<usize>,
    /// Whether the teacher (in process) is evaluated for the table.
    pub teacher: bool,
    /// Samples shown in the report.
    pub report_samples: usize,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            interval: 0,
            test_prompts: None,
            validation_prompts: 256,
            samples_per_prompt: 1,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            max_response_tokens: None,
            teacher: true,
            report_samples: 16,
        }
    }
}

impl EvaluationConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("evaluation.samples_per_prompt", self.samples_per_prompt as u64)?;
        let t = self.temperature;
        check(t >= 0.0 && t.is_finite(), "evaluation.temperature", "finite and at least 0", t)?;
        if let Some(k) = self.top_k {
            at_least_one("evaluation.top_k", k as u64)?;
        }
        if let Some(p) = self.top_p {
            check(p > 0.0 && p <= 1.0, "evaluation.top_p", "above 0 and at most 1", p)?;
        }
        if let Some(tokens) = self.max_response_tokens {
            at_least_one("evaluation.max_response_tokens", tokens as u64)?;
        }
        Ok(())
    }
}
