//! Losses that do not fit the responses that they are given.

use super::Said;
use crate::config::{
    CorrectionKind, LossKind, MixConfig, OldLogprobs, ResponseSource, TrainConfig,
};

pub(super) fn sft_on_own_samples(config: &TrainConfig) -> Option<Said> {
    let own = config.rollout.student_writes();
    (config.objective.loss == LossKind::Sft && own).then(|| {
        let reason = "the loss sft on the student's own samples: the expected gradient of \
                      cross-entropy on one's own samples is zero";
        (
            reason.into(),
            "use --responses label or teacher, or --loss reinforce with an estimator of rewards",
        )
    })
}

pub(super) fn policy_loss_on_labels(config: &TrainConfig) -> Option<Said> {
    let loss = config.objective.loss;
    (loss.is_policy() && config.rollout.has_labels()).then(|| {
        let reason = format!(
            "the policy loss {loss:?} on labels: they are not samples of the student, and no \
             ratio says how likely they were"
        );
        (reason, "use --loss sft or a divergence such as forward_kl, or --responses student; --sft-coef mixes labels into any loss")
    })
}

pub(super) fn unweighted_off_policy(config: &TrainConfig) -> Option<Said> {
    let (objective, rollout) = (&config.objective, &config.rollout);
    let mixes = rollout.teacher_mixed_alpha > 0.0 && rollout.student_writes();
    let weighted =
        objective.correction.kind != CorrectionKind::None || objective.loss == LossKind::MiniLlm;
    let off_policy = mixes || rollout.teacher_writes();
    (objective.loss.is_policy() && off_policy && !weighted).then(|| {
        let reason = format!(
            "the policy loss {:?} on tokens that the teacher has a hand in, without importance \
             weights: what the teacher likes is drawn more often than the student would draw it, \
             and the gradient is of no KL and of no expected reward",
            objective.loss
        );
        (reason, "add --sampler-correction truncate with --old-logprobs recompute, or use --loss mini_llm, sft, or a divergence")
    })
}

pub(super) fn old_is_not_the_student(config: &TrainConfig) -> Option<Said> {
    let (objective, rollout) = (&config.objective, &config.rollout);
    let mixes = rollout.teacher_mixed_alpha > 0.0 && rollout.student_writes();
    let sampler = objective.old_logprobs == OldLogprobs::Sampler;
    let off_policy = mixes || rollout.teacher_writes();
    (objective.loss.is_policy() && off_policy && sampler).then(|| {
        let reason = "old_logprobs `sampler` where the teacher has a hand in the samples: the \
                      sampler's log-probs are not the student's, so that the signal compares the \
                      teacher with a mixture of itself, and every importance weight is 1";
        (reason.into(), "use --old-logprobs recompute")
    })
}

pub(super) fn greedy_policy_samples(config: &TrainConfig) -> Option<Said> {
    let greedy = config.rollout.teacher_writes() && config.rollout.teacher_temperature == 0.0;
    (greedy && config.objective.loss.is_policy()).then(|| {
        let reason = format!(
            "the policy loss {:?} on greedy responses of the teacher: all of their probability is \
             on one response, and weights from the teacher's log-probs are of another distribution",
            config.objective.loss
        );
        (reason, "set --teacher-temperature above 0, or use --loss sft")
    })
}

pub(super) fn greedy_repeats(config: &TrainConfig) -> Option<Said> {
    let rollout = &config.rollout;
    let greedy = rollout.teacher_writes() && rollout.teacher_temperature == 0.0;
    (greedy && rollout.samples_per_prompt > 1).then(|| {
        let reason = format!(
            "teacher_temperature 0 with samples_per_prompt {0}: all {0} responses of the teacher \
             to a prompt are the same, at {0} times the cost",
            rollout.samples_per_prompt
        );
        (reason, "set --n-samples-per-prompt 1, or --teacher-temperature above 0")
    })
}

pub(super) fn mixing_nothing(config: &TrainConfig) -> Option<Said> {
    let rollout = &config.rollout;
    (rollout.teacher_mixed_alpha > 0.0 && !rollout.student_writes()).then(|| {
        let reason = "teacher_mixed_alpha where the student writes no responses: no token is \
                      drawn from the mixture";
        (reason.into(), "set --responses student, or drop --teacher-mixed-alpha")
    })
}

pub(super) fn mix_not_read(config: &TrainConfig) -> Option<Said> {
    let rollout = &config.rollout;
    let set = rollout.mix != MixConfig::default();
    (set && rollout.responses != ResponseSource::Mixed).then(|| {
        let reason = format!(
            "rollout.mix with rollout.responses {:?}: the shares are read where it is `mixed`",
            rollout.responses
        );
        (reason, "set --responses mixed, or drop the shares")
    })
}
