use serde::{Deserialize, Serialize};

/// The estimator of the task's advantage, to which the distillation signal is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatorKind {
    /// No task reward: pure distillation.
    #[default]
    Zero,
    /// The reward as it is.
    RawReward,
    /// Reward within its group, over the standard deviation.
    Grpo,
    /// Reward within its group.
    DrGrpo,
    /// Leave-one-out baseline.
    Rloo,
    /// Length-weighted mean of the group as baseline.
    Opo,
    /// Reward within its group, over the group's mean.
    MaxRl,
    /// Best reward of teams of `pass_k`, standardised.
    PassAtK,
    /// Discounted return (`gamma`) less `baseline`.
    Reinforce,
    /// Discounted return with a KL penalty per token; whitened.
    ReinforcePlusPlus,
    /// Group-centred reward with a KL penalty per token; whitened.
    ReinforcePlusPlusBaseline,
    /// Generalised advantage estimation with a trained critic.
    Ppo,
}

impl EstimatorKind {
    /// Whether a response is compared with others to the same prompt.
    pub fn compares_group(self) -> bool {
        matches!(
            self,
            Self::Grpo
                | Self::DrGrpo
                | Self::Rloo
                | Self::Opo
                | Self::MaxRl
                | Self::PassAtK
                | Self::ReinforcePlusPlusBaseline
        )
    }

    /// Whether `kl_coef` enters.
    pub fn reads_kl_coef(self) -> bool {
        self.whitens() || self == Self::Ppo
    }

    /// Whether `gamma` enters.
    pub fn reads_gamma(self) -> bool {
        matches!(self, Self::Reinforce | Self::ReinforcePlusPlus | Self::Ppo)
    }

    /// Whether its advantages are whitened whatever `whiten` says.
    pub fn whitens(self) -> bool {
        matches!(self, Self::ReinforcePlusPlus | Self::ReinforcePlusPlusBaseline)
    }
}

/// What the estimator `reinforce` takes off a reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineKind {
    /// Nothing.
    #[default]
    None,
    /// Mean reward of the batch.
    BatchMean,
    /// Mean reward of the prompt's responses.
    GroupMean,
    /// Mean reward of the prompt's other responses.
    LeaveOneOut,
}

/// What becomes of responses that reached the token limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TruncatedKind {
    /// They are trained on like any other.
    #[default]
    Keep,
    /// None of their tokens is trained on.
    Mask,
    /// `truncation_penalty` is taken off their reward.
    Penalise,
    /// Up to `truncation_penalty` is taken off, growing over the last `overlong_buffer` tokens.
    Overlong,
}
