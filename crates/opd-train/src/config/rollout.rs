use opd_rollout::Truncation;
use serde::{Deserialize, Serialize};

use super::{
    ConfigError, MixConfig,
    error::{at_least_one, check, non_negative},
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
    /// The teacher's own, sampled at each step: sequence-level distillation.
    Teacher,
    /// Of several of them: `[rollout.mix]` says in which shares.
    Mixed,
}

/// How the student is sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Whose responses are trained on.
    pub responses: ResponseSource,
    /// Shares of each author where `responses` is `mixed`.
    pub mix: MixConfig,
    /// Temperature at which the teacher writes responses; 0 is greedy.
    pub teacher_temperature: f64,
    /// The teacher's share in every token that the student samples: MiniLLM's teacher-mixed
    /// sampling, 0.2 in its source; 0 is the student alone.
    pub teacher_mixed_alpha: f64,
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
    /// Draw only from tokens at least this times as likely as the likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Divides the positive logits, and multiplies the negative ones, of every token that the prompt or
    /// the response has so far; 1 for none.
    pub repetition_penalty: f64,
    /// Texts that end a response; its reward is of what stands before.
    pub stop: Vec<String>,
    /// Token ids that end a response, beside those of `generation_config.json`.
    pub stop_token_ids: Vec<u32>,
    /// Sequences sampled side by side.
    pub max_sequences: usize,
    /// Whether to hold a second copy of the weights while responses are sampled, in the form in
    /// which few rows read them fastest (on a GPU: in bf16 alone); what is sampled is the same.
    pub packed_weights: bool,
    /// Whether each pass over the prompts has a random order of its own; else it is the file's.
    pub shuffle: bool,
    /// Steps between those whose rollouts are kept in `rollouts/step-N.jsonl`; 0 for none.
    pub dump_interval: u64,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            responses: ResponseSource::Student,
            mix: MixConfig::default(),
            teacher_temperature: 1.0,
            teacher_mixed_alpha: 0.0,
            prompts: 32,
            samples_per_prompt: 8,
            max_response_tokens: 256,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            max_sequences: 256,
            packed_weights: true,
            shuffle: true,
            dump_interval: 0,
        }
    }
}

impl RolloutConfig {
    /// Whether the teacher writes some of the responses.
    pub fn teacher_writes(&self) -> bool {
        self.shares().teacher > 0.0
    }

    /// Whether labels are among the responses.
    pub fn has_labels(&self) -> bool {
        self.shares().label > 0.0
    }

    /// Whether the student writes some of the responses.
    pub fn student_writes(&self) -> bool {
        self.shares().student > 0.0
    }

    /// What each author's share of the prompts is, whichever way it is said; not normalised.
    pub fn shares(&self) -> MixConfig {
        let none = MixConfig { student: 0.0, label: 0.0, teacher: 0.0, ..self.mix };
        match self.responses {
            ResponseSource::Student => MixConfig { student: 1.0, ..none },
            ResponseSource::Label => MixConfig { label: 1.0, ..none },
            ResponseSource::Teacher => MixConfig { teacher: 1.0, ..none },
            ResponseSource::Mixed => self.mix,
        }
    }

    /// What the student's draws are left with.
    pub fn truncation(&self) -> Truncation {
        Truncation { top_k: self.top_k, top_p: self.top_p, min_p: self.min_p }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("rollout.prompts", self.prompts as u64)?;
        at_least_one("rollout.samples_per_prompt", self.samples_per_prompt as u64)?;
        at_least_one("rollout.max_response_tokens", self.max_response_tokens as u64)?;
        at_least_one("rollout.max_sequences", self.max_sequences as u64)?;
        let t = self.temperature;
        check(t > 0.0 && t.is_finite(), "rollout.temperature", "finite and above 0", t)?;
        non_negative("rollout.teacher_temperature", self.teacher_temperature)?;
        let alpha = self.teacher_mixed_alpha;
        let expected = "at least 0 and under 1";
        check((0.0..1.0).contains(&alpha), "rollout.teacher_mixed_alpha", expected, alpha)?;
        let penalty = self.repetition_penalty;
        let positive = penalty > 0.0 && penalty.is_finite();
        check(positive, "rollout.repetition_penalty", "finite and above 0", penalty)?;
        if alpha > 0.0 && !(self.truncation().is_none() && penalty == 1.0) {
            return Err(ConfigError::Conflict {
                what: "rollout.teacher_mixed_alpha with rollout.top_k, rollout.top_p, rollout.min_p or rollout.repetition_penalty: importance weights need the whole distributions of both sides".into(),
                remedy: "drop --rollout-top-k, --rollout-top-p, --rollout-min-p and --rollout-repetition-penalty, or --teacher-mixed-alpha",
            });
        }
        self.mix.validate()?;
        if let Some(k) = self.top_k {
            at_least_one("rollout.top_k", k as u64)?;
        }
        if let Some(p) = self.top_p {
            check(p > 0.0 && p <= 1.0, "rollout.top_p", "above 0 and at most 1", p)?;
        }
        if let Some(p) = self.min_p {
            check((0.0..=1.0).contains(&p), "rollout.min_p", "from 0 to 1", p)?;
        }
        if self.stop.iter().any(String::is_empty) {
            let what = "rollout.stop holds an empty text, which would end every response".into();
            return Err(ConfigError::Conflict { what, remedy: "drop it" });
        }
        Ok(())
    }
}
