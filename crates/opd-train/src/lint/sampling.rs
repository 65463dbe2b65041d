//! Whose samples the gradient is an expectation over.

use super::Said;
use crate::config::{CorrectionKind, LossKind, OldLogprobs, TrainConfig};

pub(super) fn truncated_sampling(config: &TrainConfig) -> Option<Said> {
    let (rollout, loss) = (&config.rollout, config.objective.loss);
    let cut = rollout.top_k.is_some()
        || rollout.top_p.is_some_and(|p| p < 1.0)
        || rollout.min_p.is_some_and(|p| p > 0.0)
        || rollout.repetition_penalty != 1.0;
    let samples = rollout.student_writes();
    (cut && samples && loss.is_policy()).then(|| {
        let reason = "top_k, top_p, min_p or repetition_penalty change the distribution that is sampled \
                      from, and log-probs are those of the whole as the student has it: tokens that \
                      are never drawn are pushed neither up nor down, those drawn more or less often \
                      too much or too little, and the expected gradient is not that of the student's \
                      own KL or reward";
        let remedy = "drop --rollout-top-k, --rollout-top-p, --rollout-min-p and \
                      --rollout-repetition-penalty while training";
        (reason.into(), remedy)
    })
}

pub(super) fn no_ratio(config: &TrainConfig) -> Option<Said> {
    let updates = config.optimizer.updates_per_batch;
    (config.objective.loss == LossKind::Reinforce && updates > 1).then(|| {
        let reason = format!(
            "the loss reinforce with updates_per_batch {updates}: from the second update on the \
             samples are of an older policy, and no ratio corrects for it"
        );
        (reason, "use --loss importance_sampling or ppo_clip, or --updates-per-batch 1")
    })
}

pub(super) fn nothing_to_correct(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let policy = objective.loss.is_policy() && objective.loss != LossKind::MiniLlm;
    let corrects = objective.correction.kind != CorrectionKind::None && policy;
    (corrects && objective.old_logprobs == OldLogprobs::Sampler).then(|| {
        let reason = "a sampler correction with old_logprobs `sampler`: both sides of the weight \
                      are the sampler's, so that it is 1 everywhere";
        (reason.into(), "use --old-logprobs recompute, or drop --sampler-correction")
    })
}

pub(super) fn mask_never_acts(config: &TrainConfig) -> Option<Said> {
    let once = config.optimizer.updates_per_batch == 1;
    let loss = config.objective.loss;
    let policy = loss.is_policy() && loss != LossKind::MiniLlm;
    (config.objective.opsm_delta.is_some() && once && policy).then(|| {
        let reason = "opsm_delta with updates_per_batch 1: the student has not moved when its \
                      only update of a batch is made, so that no sequence is masked";
        (reason.into(), "set --updates-per-batch above 1, or drop --opsm-delta")
    })
}
