use std::sync::Arc;

/// Where a prompt came from: routes it to a teacher and splits metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(Arc<str>);

impl Source {
    /// A source of this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new("default")
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why sampling of a response ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Finish {
    /// An end-of-sequence token was sampled; it is the response's last token.
    #[default]
    Eos,
    /// A text that ends responses was completed by the last token.
    Stop,
    /// The token limit was reached: the response is truncated.
    Length,
}

/// Who wrote a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Author {
    /// The student, token by token from what `sampler_logprobs` says.
    #[default]
    Student,
    /// Nobody here: it is the label of the prompt, whose log-probs under a sampler are unknown.
    Label,
    /// The teacher, whose log-probs `sampler_logprobs` are.
    Teacher,
}

/// One sampled response and what was known when it was sampled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollout {
    /// Prompt token ids, at least one.
    pub prompt: Vec<u32>,
    /// Prompt token ids that the teacher sees instead, at least one, where it knows more than the
    /// student; `None` is the student's prompt. What aligns the two is the response.
    pub teacher_prompt: Option<Vec<u32>>,
    /// Response token ids as sampled, at least one; the end-of-sequence token is included.
    pub response: Vec<u32>,
    /// Log-prob (nats) of each response token under the full softmax at the rollout temperature.
    pub sampler_logprobs: Vec<f32>,
    /// Log-prob (nats) of each response token under what it was really drawn from, where
    /// top-k or top-p cut the distribution; `None` where nothing was cut.
    pub truncated_logprobs: Option<Vec<f32>>,
    /// Which response tokens are trained on; `None` means all.
    pub loss_mask: Option<Vec<bool>>,
    /// Task reward of the whole response; 0 for pure distillation.
    pub reward: f32,
    /// Rollouts of the same prompt share a group.
    pub group: u32,
    /// Where the prompt came from.
    pub source: Source,
    /// Why sampling ended.
    pub finish: Finish,
    /// Who wrote the response.
    pub author: Author,
}
