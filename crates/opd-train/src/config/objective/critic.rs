use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{
    ConfigError,
    error::{check, non_negative},
};

/// What computes the values of the estimator `ppo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticKind {
    /// A head on the student's last hidden states.
    #[default]
    Head,
    /// A model of its own with such a head.
    Model,
}

/// The critic of the estimator `ppo`: `[objective.critic]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CriticConfig {
    /// What computes the values (`--critic`).
    pub kind: CriticKind,
    /// Directory that the critic starts from: its `value_head.safetensors`, and for `model` its
    /// model, whose head may be missing (`--critic-load`). Without, a fresh head, on the
    /// student's start weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Peak learning rate of the critic (`--critic-lr`); `optimizer.lr` without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// How far a value may move from that of the rollout before the move stops paying
    /// (`--value-clip`).
    pub value_clip: f64,
    /// Weight of the value loss in the student's own gradient, for `head` (`--value-loss-coef`);
    /// 0 trains the head alone.
    pub student_coef: f64,
}

impl Default for CriticConfig {
    fn default() -> Self {
        Self { kind: CriticKind::Head, path: None, lr: None, value_clip: 0.2, student_coef: 0.0 }
    }
}

impl CriticConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if let Some(lr) = self.lr {
            check(lr > 0.0 && lr.is_finite(), "objective.critic.lr", "finite and above 0", lr)?;
        }
        non_negative("objective.critic.value_clip", self.value_clip)?;
        non_negative("objective.critic.student_coef", self.student_coef)
    }
}
