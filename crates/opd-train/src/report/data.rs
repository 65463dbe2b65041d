use serde::{Deserialize, Serialize};

use crate::{report::PositionKl, run::Summary};

/// What a report shows beside the curves. Whatever is empty is left out of the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportData {
    /// The run's name.
    pub title: String,
    /// Steps, seconds, tokens and seed.
    pub summary: Summary,
    /// Rows of the table, in its order.
    pub evaluations: Vec<Evaluation>,
    /// Mean KL of each place in the response, before training.
    pub kl_by_position_before: Vec<PositionKl>,
    /// The same after training.
    pub kl_by_position_after: Vec<PositionKl>,
    /// Responses before training.
    pub samples_before: Vec<Sample>,
    /// Responses after training; those of the same prompts are shown side by side.
    pub samples_after: Vec<Sample>,
    /// The resolved configuration, as text.
    pub config: String,
    /// Version, threads, device and the like, as names and values.
    pub environment: Vec<(String, String)>,
}

/// Whose evaluation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The student before training.
    Before,
    /// The student after training.
    After,
    /// The teacher.
    Teacher,
}

/// How often answers to held-out prompts were right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Whose answers.
    pub who: Who,
    /// Fraction of right answers, 0 to 1.
    pub pass_at_1: f64,
    /// Bounds of the 95% confidence interval of [`Self::pass_at_1`], 0 to 1.
    pub interval: [f64; 2],
    /// Chances that one of several answers is right, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pass_at_k: Vec<PassAtK>,
    /// Held-out prompts.
    pub prompts: u64,
    /// Answers per prompt.
    pub samples_per_prompt: u64,
}

/// Chance that at least one of `k` answers is right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassAtK {
    /// Answers drawn.
    pub k: u64,
    /// The chance, 0 to 1.
    pub rate: f64,
    /// Bounds of its 95% confidence interval, 0 to 1.
    pub interval: [f64; 2],
}

/// A prompt and one response of the student.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt as text.
    pub prompt: String,
    /// The response, token by token.
    pub tokens: Vec<TokenKl>,
    /// Whether it is right, where that can be told.
    pub correct: Option<bool>,
}

/// A response token with what student and teacher make of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenKl {
    /// The token as text.
    pub text: String,
    /// Log-prob (nats) under the student that sampled it.
    pub student_logprob: f32,
    /// Log-prob (nats) under the teacher; `None` where it gave none.
    pub teacher_logprob: Option<f32>,
}

impl TokenKl {
    /// `student_logprob - teacher_logprob`, nats: the one-sample reverse KL.
    pub fn kl(&self) -> Option<f32> {
        self.teacher_logprob.map(|teacher_logprob| self.student_logprob - teacher_logprob)
    }
}
