use serde::{Deserialize, Serialize};

/// The loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// `-ratio A`.
    #[default]
    ImportanceSampling,
    /// `-log p A`.
    Reinforce,
    /// Clipped ratio, optionally from below for negative advantages.
    PpoClip,
    /// Clipped ratio of the whole sequence.
    Gspo,
    /// Clipped ratio as a weight.
    Cispo,
    /// `KL(student || teacher)` over the whole vocabulary.
    ReverseKl,
    /// `KL(teacher || student)` over the whole vocabulary.
    ForwardKl,
    /// Generalised Jensen-Shannon divergence over the whole vocabulary.
    Jsd,
    /// `KL(teacher || a mixture of both)` over the whole vocabulary.
    SkewForwardKl,
    /// `KL(student || a mixture of both)` over the whole vocabulary.
    SkewReverseKl,
    /// A weighted sum of forward and reverse KL over the whole vocabulary.
    MixedKl,
    /// Total variation distance over the whole vocabulary.
    Tvd,
    /// Distance of the sorted probabilities of two vocabularies (ULD).
    Uld,
    /// Jensen-Shannon divergence of the tokens that two vocabularies share, and distance of the
    /// sorted probabilities of all others (GOLD).
    Gold,
    /// `KL(teacher || student)` over `top_k` ids.
    TopKForwardKl,
    /// `KL(student || teacher)` over `top_k` ids.
    TopKReverseKl,
    /// Cross-entropy of the responses: supervised fine-tuning.
    Sft,
    /// Reverse KL of the next token over the whole vocabulary, and of what follows as advantage.
    MiniLlm,
}

impl LossKind {
    /// Whether the loss compares whole distributions and reads no advantages.
    pub fn is_divergence(self) -> bool {
        matches!(
            self,
            Self::ReverseKl
                | Self::ForwardKl
                | Self::Jsd
                | Self::SkewForwardKl
                | Self::SkewReverseKl
                | Self::MixedKl
                | Self::Tvd
        ) || self.is_top_k()
            || self.is_cross_vocabulary()
    }

    /// Whether the loss compares `top_k` ids of the vocabulary.
    pub fn is_top_k(self) -> bool {
        matches!(self, Self::TopKForwardKl | Self::TopKReverseKl)
    }

    /// Whether the loss reads the teacher's whole distributions.
    pub fn compares_distributions(self) -> bool {
        self.is_divergence() || self == Self::MiniLlm
    }

    /// Whether the teacher may have a vocabulary of its own.
    pub fn is_cross_vocabulary(self) -> bool {
        matches!(self, Self::Uld | Self::Gold)
    }

    /// Whether the loss is one of the sampled tokens and their advantages.
    pub fn is_policy(self) -> bool {
        !self.is_divergence() && self != Self::Sft
    }
}

/// Whose likeliest ids a top-k loss looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupportKind {
    /// The teacher's.
    #[default]
    Teacher,
    /// The student's.
    Student,
}

/// What a top-k loss does with the probability outside its ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TailKind {
    /// One more outcome holds it.
    #[default]
    Bucket,
    /// It is divided out.
    Renormalised,
    /// It is left out, which is biased: needs `allow_biased`.
    Truncated,
}

/// Bounds of the importance ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipConfig {
    /// The ratio is kept above `1 - below` (`--eps-clip`).
    pub below: f64,
    /// The ratio is kept under `1 + above` (`--eps-clip-high`).
    pub above: f64,
    /// Bound for negative advantages, above 1 (`--eps-clip-c`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual: Option<f64>,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self { below: 0.2, above: 0.2, dual: None }
    }
}
