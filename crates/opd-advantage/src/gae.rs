use opd_batch::{KlEstimator, Ragged, ScoredBatch};

use crate::{
    AdvantageEstimator, Result, discounted::discounted_sums, output::per_token,
    reference_penalty::reference_penalty, setting,
};

const NAME: &str = "Gae";

/// Generalised advantage estimation, as PPO uses it, from a critic's values.
///
/// ```text
/// r_t      = -kl_coef * k_t,   plus R at the last token
/// delta_t  = r_t + gamma * V_{t+1} - V_t,   V = 0 after the last token
/// A_t      = delta_t + gamma * lambda * A_{t+1}
/// return_t = A_t + V_t
/// ```
///
/// `k_t` is `kl` of (old, reference) in nats; `V` is [`ScoredBatch::values`], one per response
/// token, in units of the reward, as are advantages and returns. Masked tokens take part like
/// any other, because the episode runs through them. `gamma = lambda = 1` is the plain return
/// less the value.
///
/// Source: Schulman et al. 2015, <https://arxiv.org/abs/1506.02438>, eq. 11 and 16; the token
/// rewards from Ouyang et al. 2022, <https://arxiv.org/abs/2203.02155>.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Gae {
    /// Weight of the KL to the reference, at least 0; 0, the default, needs no reference.
    pub kl_coef: f32,
    /// How the KL is estimated.
    pub kl: KlEstimator,
    /// Discount per token, from 0 to 1; default 1.
    pub gamma: f32,
    /// Trades bias of the values (0) against variance of the return (1), from 0 to 1; default 1.
    pub lambda: f32,
}

/// What [`Gae::estimate`] gives: streams in the rows of the batch's responses.
#[derive(Clone, Debug, PartialEq)]
pub struct GaeOutput {
    /// For the policy loss.
    pub advantages: Ragged<f32>,
    /// Targets of the value loss: advantage plus value.
    pub returns: Ragged<f32>,
}

impl Default for Gae {
    fn default() -> Self {
        Self { kl_coef: 0.0, kl: KlEstimator::K1, gamma: 1.0, lambda: 1.0 }
    }
}

impl Gae {
    /// Advantages and the returns that a critic is trained on.
    ///
    /// # Errors
    ///
    /// As [`AdvantageEstimator::advantages`].
    pub fn estimate(&self, batch: &ScoredBatch<'_>) -> Result<GaeOutput> {
        let (advantages, values) = self.packed(batch)?;
        let returns = advantages.iter().zip(values).map(|(a, &v)| a + f64::from(v));
        let returns = per_token(batch, returns, "returns of Gae")?;
        let advantages = per_token(batch, advantages, "advantages of Gae")?;
        Ok(GaeOutput { advantages, returns })
    }

    fn packed<'b>(&self, batch: &'b ScoredBatch<'_>) -> Result<(Vec<f64>, &'b [f32])> {
        self.validate()?;
        let values = batch.values(NAME)?.values();
        let mut tokens = reference_penalty(batch, self.kl_coef, self.kl, NAME)?;
        let rows = batch.rollouts().rows();
        let gamma = f64::from(self.gamma);
        for (range, &reward) in rows.ranges().zip(batch.rollouts().rewards()) {
            let mut reward = f64::from(reward);
            let mut next = 0.0;
            for token in range.rev() {
                let value = f64::from(values[token]);
                tokens[token] += reward + gamma * next - value;
                (reward, next) = (0.0, value);
            }
        }
        discounted_sums(rows, &mut tokens, gamma * f64::from(self.lambda));
        Ok((tokens, values))
    }
}

impl AdvantageEstimator for Gae {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        per_token(batch, self.packed(batch)?.0, "advantages of Gae")
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "kl_coef", self.kl_coef)?;
        setting::fraction(NAME, "gamma", self.gamma)?;
        setting::fraction(NAME, "lambda", self.lambda)
    }
}
