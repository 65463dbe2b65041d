use opd_batch::{KlEstimator, Ragged, ScoredBatch};

use crate::{
    AdvantageEstimator, Result, discounted::discounted_sums, output::per_token,
    reference_penalty::reference_penalty, setting,
};

const NAME: &str = "ReinforcePlusPlus";

/// REINFORCE++: discounted return of the reward and a per-token KL penalty; no groups, no critic.
///
/// ```text
/// r_t = m_t * -kl_coef * k_t,   plus R at the last token with mask 1
/// A_t = r_t + gamma * A_{t+1}
/// ```
///
/// `k_t` is `kl` of (old, reference) in nats, `m_t` the rollout's own loss mask: a missing
/// teacher score moves no reward. A row without any mask 1 gets 0. In units of the reward.
///
/// The method whitens over the batch: end with
/// [`whitened`](AdvantageEstimator::whitened), after [`plus`](AdvantageEstimator::plus).
///
/// Source: Hu et al. 2025, REINFORCE++, <https://arxiv.org/abs/2501.03262>.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ReinforcePlusPlus {
    /// Weight of the KL to the reference, at least 0; 0, the default, needs no reference.
    pub kl_coef: f32,
    /// How the KL is estimated.
    pub kl: KlEstimator,
    /// Discount per token, from 0 to 1; default 1.
    pub gamma: f32,
}

impl Default for ReinforcePlusPlus {
    fn default() -> Self {
        Self { kl_coef: 0.0, kl: KlEstimator::K1, gamma: 1.0 }
    }
}

impl AdvantageEstimator for ReinforcePlusPlus {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let rollouts = batch.rollouts();
        let mask = rollouts.loss_mask().values();
        let mut tokens = reference_penalty(batch, self.kl_coef, self.kl, NAME)?;
        for (value, &mask) in tokens.iter_mut().zip(mask) {
            if !mask {
                *value = 0.0;
            }
        }
        for (range, &reward) in rollouts.rows().ranges().zip(rollouts.rewards()) {
            if let Some(last) = range.rev().find(|&token| mask[token]) {
                tokens[last] += f64::from(reward);
            }
        }
        discounted_sums(rollouts.rows(), &mut tokens, f64::from(self.gamma));
        per_token(batch, tokens, "advantages of ReinforcePlusPlus")
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "kl_coef", self.kl_coef)?;
        setting::fraction(NAME, "gamma", self.gamma)
    }
}
