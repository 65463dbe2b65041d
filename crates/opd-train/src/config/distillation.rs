use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{check, non_negative},
};

/// Where the teacher's scores come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherKind {
    /// A model in this process.
    #[default]
    #[serde(alias = "megatron")]
    InProcess,
    /// A SGLang server.
    Sglang,
}

/// On-policy distillation: whose log-probs, and how strong the signal is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillationConfig {
    /// Where scores come from (`--opd-type`).
    #[serde(rename = "type")]
    pub kind: TeacherKind,
    /// The teacher's directory, for `in-process` (`--opd-teacher-load`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Take `checkpoints/step-N` of `teacher`, one of our own runs
    /// (`--opd-teacher-ckpt-step`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_step: Option<u64>,
    /// Servers, for `sglang` (`--rm-url`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Weight of the reverse KL (`--opd-kl-coef`).
    pub kl_coef: f64,
    /// How much a token answers for the KL after it, 0 to 1.
    pub discount: f64,
}

impl Default for DistillationConfig {
    fn default() -> Self {
        Self {
            kind: TeacherKind::InProcess,
            teacher: None,
            teacher_step: None,
            urls: Vec::new(),
            kl_coef: 1.0,
            discount: 0.0,
        }
    }
}

impl DistillationConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        non_negative("distillation.kl_coef", self.kl_coef)?;
        let g = self.discount;
        check((0.0..=1.0).contains(&g), "distillation.discount", "from 0 to 1", g)?;
        let conflict =
            |what: &str, remedy| Err(ConfigError::Conflict { what: what.into(), remedy });
        match self.kind {
            TeacherKind::InProcess if self.teacher.is_none() => {
                let remedy = "name the teacher's model directory with --opd-teacher-load DIR";
                Err(ConfigError::Missing { key: "distillation.teacher", remedy })
            }
            TeacherKind::InProcess if !self.urls.is_empty() => conflict(
                "--rm-url goes with --opd-type sglang, not with in-process",
                "drop --rm-url or use --opd-type sglang",
            ),
            TeacherKind::Sglang if self.teacher.is_some() => conflict(
                "--opd-teacher-load goes with --opd-type in-process, not with sglang",
                "drop --opd-teacher-load (the server has its model) or use --opd-type in-process",
            ),
            TeacherKind::Sglang if self.teacher_step.is_some() => conflict(
                "--opd-teacher-ckpt-step goes with --opd-type in-process, not with sglang",
                "drop --opd-teacher-ckpt-step or use --opd-type in-process",
            ),
            TeacherKind::Sglang if self.urls.is_empty() => {
                let remedy =
                    "name the server with --rm-url URL, e.g. http://127.0.0.1:30000/generate";
                Err(ConfigError::Missing { key: "distillation.urls", remedy })
            }
            _ => Ok(()),
        }
    }
}
