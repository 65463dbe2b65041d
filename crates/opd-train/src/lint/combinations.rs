//! Losses that do not fit the responses that they are given.

use super::Said;
use crate::config::{LossKind, ResponseSource, TrainConfig};

pub(super) fn sft_on_own_samples(config: &TrainConfig) -> Option<Said> {
    let own = config.rollout.responses == ResponseSource::Student;
    (config.objective.loss == LossKind::Sft && own).then(|| {
        let reason = "the loss sft on the student's own samples: the expected gradient of \
                      cross-entropy on one's own samples is zero";
        (reason.into(), "use --responses label, or --loss reinforce with an estimator of rewards")
    })
}

pub(super) fn policy_loss_on_labels(config: &TrainConfig) -> Option<Said> {
    let loss = config.objective.loss;
    (loss.is_policy() && config.rollout.responses == ResponseSource::Label).then(|| {
        let reason = format!(
            "the policy loss {loss:?} on labels: they are not samples of the student, and no \
             ratio says how likely they were"
        );
        (reason, "use --loss sft or a divergence such as forward_kl, or --responses student")
    })
}
