use opd_batch::{Finish, Rollout};

use crate::{Error, Result, setting};

const NAME: &str = "Truncation";

/// What becomes of responses that reached the token limit, or came near it.
///
/// Applied to the rollouts before they become a batch, so that group statistics see the changed
/// rewards and the counts of the loss see the changed masks.
///
/// ```text
/// Keep      nothing changes
/// Mask      a truncated response leaves the loss, not its group
/// Penalise  R <- R - penalty, if truncated
/// Overlong  R <- R - penalty * clamp((n - (limit - buffer)) / buffer, 0, 1)
/// ```
///
/// `n` is the number of response tokens. A masked response whose reward is 0 for want of an end
/// still lowers its group's mean; masking only spares the tokens that it wrote.
///
/// Source: Yu et al. 2025, DAPO, <https://arxiv.org/abs/2503.14476>, section 3.4: overlong
/// filtering is `Mask`, soft overlong punishment is `Overlong`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "type", rename_all = "snake_case"))]
pub enum Truncation {
    /// Trains on truncated responses as on any other.
    #[default]
    Keep,
    /// Trains on no token of a truncated response.
    Mask,
    /// Takes a constant off the reward of a truncated response.
    Penalise {
        /// In units of the reward, at least 0.
        penalty: f32,
    },
    /// Takes off the more, the nearer a response comes to the limit, whether it ended or not.
    Overlong {
        /// Longest response, in tokens.
        limit: usize,
        /// Tokens before the limit over which the punishment grows, from 1 to `limit`.
        buffer: usize,
        /// The most that is taken off, in units of the reward, at least 0; 1 in the source.
        penalty: f32,
    },
}

impl Truncation {
    /// Passes if every setting is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::Keep | Self::Mask => Ok(()),
            Self::Penalise { penalty } => setting::coefficient(NAME, "penalty", penalty),
            Self::Overlong { limit, buffer, penalty } => {
                setting::coefficient(NAME, "penalty", penalty)?;
                if (1..=limit).contains(&buffer) {
                    return Ok(());
                }
                let (field, range, value) = ("buffer", "from 1 to the limit", buffer as f32);
                Err(Error::Setting { estimator: NAME, field, range, value })
            }
        }
    }

    /// Changes reward or mask of the rollouts that it concerns.
    ///
    /// # Errors
    ///
    /// As [`Self::validate`].
    pub fn apply(&self, rollouts: &mut [Rollout]) -> Result<()> {
        self.validate()?;
        for rollout in rollouts {
            let truncated = rollout.finish == Finish::Length;
            match *self {
                Self::Mask if truncated => {
                    rollout.loss_mask = Some(vec![false; rollout.response.len()]);
                }
                Self::Penalise { penalty } if truncated => rollout.reward -= penalty,
                Self::Overlong { limit, buffer, penalty } => {
                    let over = rollout.response.len() as f64 - (limit - buffer) as f64;
                    let share = (over / buffer as f64).clamp(0.0, 1.0);
                    rollout.reward -= (f64::from(penalty) * share) as f32;
                }
                Self::Keep | Self::Mask | Self::Penalise { .. } => {}
            }
        }
        Ok(())
    }
}
