//! What comparing the responses to one prompt comes to.

use super::Said;
use crate::config::{AggregationKind, BaselineKind, EstimatorKind, TrainConfig, TruncatedKind};

pub(super) fn single_sample(config: &TrainConfig) -> Option<Said> {
    let (objective, n) = (&config.objective, config.rollout.samples_per_prompt);
    let own_baseline =
        matches!(objective.baseline, BaselineKind::GroupMean | BaselineKind::LeaveOneOut);
    let compares = objective.estimator.compares_group()
        || (objective.estimator == EstimatorKind::Reinforce && own_baseline);
    (compares && n < 2).then(|| {
        let reason = format!(
            "the estimator {:?} compares samples of one prompt, and samples_per_prompt is {n}: \
             every advantage would be 0",
            objective.estimator
        );
        (reason, "set --n-samples-per-prompt to at least 2")
    })
}

pub(super) fn team_larger_than_group(config: &TrainConfig) -> Option<Said> {
    let (k, n) = (config.objective.pass_k, config.rollout.samples_per_prompt);
    (config.objective.estimator == EstimatorKind::PassAtK && k >= n && n > 1).then(|| {
        let reason = format!(
            "the estimator PassAtK with pass_k {k} and samples_per_prompt {n}: there is at most \
             one team, and every advantage would be 0"
        );
        (reason, "set --pass-k below --n-samples-per-prompt")
    })
}

pub(super) fn negative_rewards(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let takes_off =
        matches!(objective.truncated, TruncatedKind::Penalise | TruncatedKind::Overlong);
    let penalises = takes_off && objective.truncation_penalty > 0.0;
    (objective.estimator == EstimatorKind::MaxRl && penalises).then(|| {
        let reason = "the estimator MaxRl divides by the group's mean reward, and a truncation \
                      penalty makes rewards negative: groups whose mean is not above 0 get no \
                      advantage";
        (reason.into(), "use --truncated-responses mask, or another estimator")
    })
}

pub(super) fn length_bias(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let dr_grpo = objective.estimator == EstimatorKind::DrGrpo && objective.loss.is_policy();
    (dr_grpo && objective.aggregation == AggregationKind::SequenceMeanTokenMean).then(|| {
        let reason = "dr_grpo with the aggregation sequence-mean-token-mean: each token of a long \
                      response weighs less, so that long wrong answers are punished less; the \
                      estimator's source drops that division, too";
        (reason.into(), "use --loss-aggregation sequence-mean-token-sum")
    })
}
