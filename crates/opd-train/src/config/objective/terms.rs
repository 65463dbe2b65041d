use serde::{Deserialize, Serialize};

/// One-sample estimate of a KL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlKind {
    /// `d`.
    #[default]
    K1,
    /// `d^2 / 2`.
    K2,
    /// `exp(-d) - 1 + d`.
    K3,
    /// `k3`, clamped.
    LowVarKl,
}

/// How the losses of tokens become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AggregationKind {
    /// Mean over all trained tokens of the batch.
    #[default]
    TokenMean,
    /// Mean over sequences of the mean over tokens.
    SequenceMeanTokenMean,
    /// Sum over all trained tokens.
    TokenSum,
    /// Mean over sequences of the sum over tokens, over a fixed length.
    SequenceMeanTokenSum,
}

/// Whose log-probs the ratio and the signal start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldLogprobs {
    /// The student's, computed by the trainer before the batch's first update.
    #[default]
    Recompute,
    /// The sampler's; right where sampler and trainer are one program in f32, and one forward
    /// cheaper.
    Sampler,
}
