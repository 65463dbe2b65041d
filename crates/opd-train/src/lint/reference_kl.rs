//! What the pull to the start policy is the gradient of.

use super::Said;
use crate::config::{KlKind, LossKind, TrainConfig};

fn as_loss(config: &TrainConfig) -> Option<KlKind> {
    let objective = &config.objective;
    let plain = objective.kl_loss_coef > 0.0 && !objective.kl_loss_unbiased;
    let pulls = objective.loss.is_policy() && objective.loss != LossKind::MiniLlm;
    (plain && pulls).then_some(objective.kl_loss_type)
}

pub(super) fn k1_as_loss(config: &TrainConfig) -> Option<Said> {
    (as_loss(config)? == KlKind::K1).then(|| {
        let reason = "kl_loss_type k1: as a loss its expected gradient is zero, whatever the \
                      start policy says";
        let remedy = "use --kl-loss-type k2 (the gradient of the reverse KL), or \
                      --use-unbiased-kl, or put it into the reward with --kl-coef";
        (reason.into(), remedy)
    })
}

pub(super) fn k3_as_loss(config: &TrainConfig) -> Option<Said> {
    matches!(as_loss(config)?, KlKind::K3 | KlKind::LowVarKl).then(|| {
        let reason = "kl_loss_type k3: its value estimates the reverse KL, but as a loss its \
                      expected gradient is that of the forward KL, KL(start policy || student)";
        let remedy = "use --kl-loss-type k2 or --use-unbiased-kl for the reverse KL's gradient";
        (reason.into(), remedy)
    })
}

pub(super) fn k2_weighted(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let weighted = objective.kl_loss_coef > 0.0 && objective.kl_loss_unbiased;
    (weighted && objective.loss.is_policy() && objective.kl_loss_type == KlKind::K2).then(|| {
        let reason = "kl_loss_type k2 with kl_loss_unbiased: its expected gradient is that of \
                      half the mean squared log-ratio, which is no KL";
        let remedy = "use --kl-loss-type k3 with --use-unbiased-kl, or k2 without it";
        (reason.into(), remedy)
    })
}
