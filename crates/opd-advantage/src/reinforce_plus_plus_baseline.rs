use opd_batch::{KlEstimator, Ragged, ScoredBatch};

use crate::{
    AdvantageEstimator, Result, group::from_groups, output::per_token,
    reference_penalty::reference_penalty, setting,
};

const NAME: &str = "ReinforcePlusPlusBaseline";

/// REINFORCE++ with the group's mean reward as baseline and a KL penalty per token.
///
/// ```text
/// A_t = R - mean(R of the group) - kl_coef * k_t
/// ```
///
/// `k_t` is `kl` of (old, reference) in nats; a token answers for its own KL only. In units of
/// the reward. A group of one keeps the penalty alone.
///
/// The method whitens over the batch: end with
/// [`whitened`](AdvantageEstimator::whitened), after [`plus`](AdvantageEstimator::plus).
///
/// Source: Hu et al. 2025, REINFORCE++, <https://arxiv.org/abs/2501.03262>.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ReinforcePlusPlusBaseline {
    /// Weight of the KL to the reference, at least 0; 0, the default, needs no reference.
    pub kl_coef: f32,
    /// How the KL is estimated.
    pub kl: KlEstimator,
}

impl AdvantageEstimator for ReinforcePlusPlusBaseline {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let mut tokens = reference_penalty(batch, self.kl_coef, self.kl, NAME)?;
        let centred = from_groups(batch, |reward, group| reward - group.mean);
        for (range, centred) in batch.rollouts().rows().ranges().zip(centred) {
            for value in &mut tokens[range] {
                *value += centred;
            }
        }
        per_token(batch, tokens, "advantages of ReinforcePlusPlusBaseline")
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "kl_coef", self.kl_coef)
    }
}
