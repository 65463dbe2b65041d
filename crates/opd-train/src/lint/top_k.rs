//! What a KL over few ids trains.

use super::Said;
use crate::config::{LossKind, TailKind, TrainConfig};

pub(super) fn one_renormalised(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let renormalised = objective.loss.is_top_k() && objective.top_k_tail == TailKind::Renormalised;
    (renormalised && objective.top_k == 1).then(|| {
        let reason = "top_k 1, renormalised: the one id has probability 1 on both sides, and the \
                      loss is 0 whatever the models say";
        (reason.into(), "use --top-k-tail bucket, or a larger --loss-top-k")
    })
}

pub(super) fn truncated(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let truncated = objective.top_k_tail == TailKind::Truncated && !objective.allow_biased;
    let remedy = "use --top-k-tail bucket, or --allow-biased if that is the point";
    match objective.loss {
        LossKind::TopKReverseKl if truncated => Some((
            "a truncated top-k reverse KL is smallest with no mass on the support at all: it \
             pushes mass off the ids that the teacher likes"
                .into(),
            remedy,
        )),
        LossKind::TopKForwardKl if truncated => Some((
            "a truncated top-k forward KL is smallest with all mass on the support: it teaches \
             more certainty than the teacher has"
                .into(),
            remedy,
        )),
        _ => None,
    }
}
