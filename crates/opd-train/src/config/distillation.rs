use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    ClientConfig, ConfigError, TeacherConfig, TeacherKind,
    error::{check, non_negative},
    teacher::{Misplaced, validate_all},
};

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
    /// Whose scores to take from the journal, for `replay`, where it holds those of several
    /// (`--opd-teacher-identity`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher_identity: Option<String>,
    /// Directory of the teacher's `tokenizer.json`, where it is not the student's
    /// (`--opd-teacher-tokenizer`): what the student writes is cut anew and aligned by its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Servers, for `sglang` and `vllm` (`--rm-url`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Environment variable of the servers' bearer key (`--rm-api-key-env`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// File of the servers' bearer key (`--rm-api-key-file`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// How slowly the teacher of type `ema` follows the student: after every step it keeps this
    /// share of itself (`--opd-ema-decay`).
    pub ema_decay: f64,
    /// Field of the prompt file that the teacher sees instead of the prompt
    /// (`--opd-teacher-prompt-key`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_key: Option<String>,
    /// What the teacher sees instead of the prompt, with `{prompt}` and `{label}` in their places
    /// (`--opd-teacher-prompt-template`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<String>,
    /// Weight of the reverse KL (`--opd-kl-coef`).
    pub kl_coef: f64,
    /// How much a token answers for the KL after it, 0 to 1.
    pub discount: f64,
    /// How far to go from the start policy towards the teacher: 1 to the teacher, more beyond.
    pub extrapolation: f64,
    /// Weighs early tokens up to 1 plus this; 0 weighs all the same.
    pub prefix_weight: f64,
    /// Weighs tokens by the probability ratio of what came before, teacher over student and at
    /// most 1, to this power; 0 weighs all the same, 1 is the ratio itself.
    pub prefix_ratio: f64,
    /// Greatest fraction of a batch's tokens that may have no score (`--opd-missing-max`); a
    /// batch with more ends the run before it is trained on.
    pub max_missing: f64,
    /// File that scores are kept in and taken from (`--opd-journal`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<PathBuf>,
    /// Bytes of scores that the journal keeps; the oldest make room.
    pub journal_max_bytes: u64,
    /// Compare the student at the rollout temperature with a teacher at temperature 1, where
    /// its server knows no other (`--opd-accept-temperature-bias`): the KL is biased.
    pub accept_temperature_bias: bool,
    /// How servers are asked.
    pub client: ClientConfig,
}

impl Default for DistillationConfig {
    fn default() -> Self {
        Self {
            kind: TeacherKind::InProcess,
            teacher: None,
            teacher_step: None,
            teacher_identity: None,
            tokenizer: None,
            urls: Vec::new(),
            api_key_env: None,
            api_key_file: None,
            ema_decay: 0.99,
            prompt_key: None,
            prompt_template: None,
            kl_coef: 1.0,
            discount: 0.0,
            extrapolation: 1.0,
            prefix_weight: 0.0,
            prefix_ratio: 0.0,
            max_missing: 0.01,
            journal: None,
            journal_max_bytes: 8 << 30,
            accept_temperature_bias: false,
            client: ClientConfig::default(),
        }
    }
}

impl DistillationConfig {
    pub(crate) fn validate(&self, teachers: &[TeacherConfig]) -> Result<(), ConfigError> {
        non_negative("distillation.kl_coef", self.kl_coef)?;
        let g = self.discount;
        check((0.0..=1.0).contains(&g), "distillation.discount", "from 0 to 1", g)?;
        non_negative("distillation.extrapolation", self.extrapolation)?;
        non_negative("distillation.prefix_weight", self.prefix_weight)?;
        non_negative("distillation.prefix_ratio", self.prefix_ratio)?;
        let missing = self.max_missing;
        check((0.0..=1.0).contains(&missing), "distillation.max_missing", "from 0 to 1", missing)?;
        let decay = self.ema_decay;
        check((0.0..=1.0).contains(&decay), "distillation.ema_decay", "from 0 to 1", decay)?;
        self.validate_prompt()?;
        self.client.validate()?;
        let replays = |teacher: &TeacherConfig| teacher.kind == TeacherKind::Replay;
        if self.journal.is_none()
            && (self.kind == TeacherKind::Replay || teachers.iter().any(replays))
        {
            let remedy = "name the journal that holds the scores with --opd-journal FILE";
            return Err(ConfigError::Missing { key: "distillation.journal", remedy });
        }
        match teachers {
            [] => self.validate_teacher(),
            teachers if self.names_teacher() => Err(ConfigError::Conflict {
                what: format!(
                    "{} [[teacher]] tables, and another teacher in [distillation] or by a flag",
                    teachers.len()
                ),
                remedy: "put all teachers into [[teacher]] tables, or name only one",
            }),
            teachers => validate_all(teachers),
        }
    }

    /// Whether the teacher is told more than the student.
    pub fn tells_teacher(&self) -> bool {
        self.prompt_key.is_some() || self.prompt_template.is_some()
    }

    fn validate_prompt(&self) -> Result<(), ConfigError> {
        if self.prompt_key.is_some() && self.prompt_template.is_some() {
            return Err(ConfigError::Conflict {
                what: "distillation.prompt_key and distillation.prompt_template both say what the teacher sees".into(),
                remedy: "give one of them",
            });
        }
        let template = self.prompt_template.as_deref().unwrap_or("{prompt}");
        let expected = "a text that holds {prompt}, and {label} where the teacher is to know it";
        let (key, got) = ("distillation.prompt_template", format!("`{template}`"));
        check(template.contains("{prompt}"), key, expected, got)
    }

    /// Whether a teacher is named here, and not by `[[teacher]]`.
    fn names_teacher(&self) -> bool {
        let server = !self.urls.is_empty() || self.api_key_env.is_some();
        let path = self.teacher.is_some() || self.teacher_step.is_some();
        let path = path || self.teacher_identity.is_some() || self.tokenizer.is_some();
        server || path || self.api_key_file.is_some() || self.kind != TeacherKind::InProcess
    }

    /// The teacher that is named here.
    pub(crate) fn teacher_config(&self) -> TeacherConfig {
        TeacherConfig {
            kind: self.kind,
            path: self.teacher.clone(),
            step: self.teacher_step,
            identity: self.teacher_identity.clone(),
            tokenizer: self.tokenizer.clone(),
            urls: self.urls.clone(),
            api_key_env: self.api_key_env.clone(),
            api_key_file: self.api_key_file.clone(),
            ..TeacherConfig::default()
        }
    }

    fn validate_teacher(&self) -> Result<(), ConfigError> {
        let conflict = |what: String, remedy| Err(ConfigError::Conflict { what, remedy });
        let kind = self.kind.name();
        match self.teacher_config().misplaced() {
            None if self.kind == TeacherKind::Ema && self.journal.is_some() => conflict(
                "a journal of scores with --opd-type ema: the teacher changes at every step, and no score holds for the next".into(),
                "drop --opd-journal",
            ),
            None => Ok(()),
            Some(Misplaced::Identity) => conflict(
                format!("--opd-teacher-identity goes with --opd-type replay, not with {kind}"),
                "drop --opd-teacher-identity or use --opd-type replay",
            ),
            Some(Misplaced::NoPath) => {
                let remedy = "name the teacher's model directory with --opd-teacher-load DIR";
                Err(ConfigError::Missing { key: "distillation.teacher", remedy })
            }
            Some(Misplaced::Path) => conflict(
                format!("--opd-teacher-load goes with --opd-type in-process, not with {kind}"),
                "drop --opd-teacher-load or use --opd-type in-process",
            ),
            Some(Misplaced::Step) => conflict(
                format!("--opd-teacher-ckpt-step goes with --opd-type in-process, not with {kind}"),
                "drop --opd-teacher-ckpt-step or use --opd-type in-process",
            ),
            Some(Misplaced::Urls) => conflict(
                format!("--rm-url goes with --opd-type sglang or vllm, not with {kind}"),
                "drop --rm-url or use --opd-type sglang",
            ),
            Some(Misplaced::Key) => conflict(
                format!(
                    "--rm-api-key-env and --rm-api-key-file go with --opd-type sglang or vllm, not with {kind}"
                ),
                "drop them: a server alone needs a key",
            ),
            Some(Misplaced::NoUrls) => {
                let remedy =
                    "name the server with --rm-url URL, e.g. http://127.0.0.1:30000/generate";
                Err(ConfigError::Missing { key: "distillation.urls", remedy })
            }
            Some(Misplaced::TwoKeys) => conflict(
                "--rm-api-key-env and --rm-api-key-file both name a key".into(),
                "give one of them",
            ),
        }
    }
}
