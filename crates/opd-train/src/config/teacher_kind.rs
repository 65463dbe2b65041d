use serde::{Deserialize, Serialize};

/// Where the teacher's scores come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherKind {
    /// A model in this process.
    #[default]
    #[serde(alias = "megatron")]
    InProcess,
    /// SGLang servers, or those of `opd serve`.
    Sglang,
    /// vLLM servers.
    Vllm,
    /// The scores that a journal holds; the teacher itself need not be there.
    Replay,
    /// The student before training.
    Start,
    /// A moving average of the student's weights.
    Ema,
}

impl TeacherKind {
    /// Whether it is asked over HTTP.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::Sglang | Self::Vllm)
    }

    /// Whether its weights are in this process.
    pub fn is_in_process(self) -> bool {
        self == Self::InProcess || self.is_own()
    }

    /// Whether it is made of the student.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Start | Self::Ema)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProcess => "in-process",
            Self::Sglang => "sglang",
            Self::Vllm => "vllm",
            Self::Replay => "replay",
            Self::Start => "start",
            Self::Ema => "ema",
        }
    }
}
