use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{check, non_negative},
};

/// What one draw of an author is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixBy {
    /// All responses to one prompt of a step.
    #[default]
    Prompt,
    /// All responses of a step.
    Batch,
}

/// Whose responses are trained on, in which shares: `[rollout.mix]`.
///
/// Shares are of prompts, or of steps, and need not add up to 1. GKD's lambda is `student`, with
/// 1 - lambda for `label` or `teacher`.
///
/// Source: Agarwal et al. 2023 (GKD), <https://arxiv.org/abs/2306.13649>, algorithm 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixConfig {
    /// Share of the student's samples.
    pub student: f64,
    /// Share of the prompt file's labels.
    pub label: f64,
    /// Share of the teacher's samples.
    pub teacher: f64,
    /// What one draw is for.
    pub by: MixBy,
}

impl Default for MixConfig {
    fn default() -> Self {
        Self { student: 0.5, label: 0.5, teacher: 0.0, by: MixBy::default() }
    }
}

impl MixConfig {
    /// Sum of the shares.
    pub fn total(&self) -> f64 {
        self.student + self.label + self.teacher
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        non_negative("rollout.mix.student", self.student)?;
        non_negative("rollout.mix.label", self.label)?;
        non_negative("rollout.mix.teacher", self.teacher)?;
        let expected = "a share above 0 for at least one of student, label and teacher";
        check(self.total() > 0.0, "rollout.mix", expected, "0 for all")
    }
}
