use serde::{Deserialize, Serialize};

/// What happens to sampler mismatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionKind {
    /// Nothing.
    #[default]
    None,
    /// The weight `exp(old - sampler)` is clamped to the bounds: TIS.
    Truncate,
    /// A weight outside the bounds drops what it is of: IcePop, masked importance sampling.
    Reject,
    /// As `reject`, and inside the bounds the weight is 1.
    Mask,
}

/// What one correction weight is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionGrain {
    /// A token.
    #[default]
    Token,
    /// A response: the product of its tokens' weights.
    Sequence,
    /// A response: their geometric mean.
    Geometric,
}

/// Correction of policy losses for a sampler that computes something else than the trainer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorrectionConfig {
    /// What is done.
    pub kind: CorrectionKind,
    /// What a weight is of.
    pub grain: CorrectionGrain,
    /// Lower bound of the weight (`--tis-clip-low`).
    pub low: f64,
    /// Upper bound of the weight (`--tis-clip`).
    pub high: f64,
}

impl Default for CorrectionConfig {
    fn default() -> Self {
        Self { kind: CorrectionKind::None, grain: CorrectionGrain::Token, low: 0.0, high: 2.0 }
    }
}
