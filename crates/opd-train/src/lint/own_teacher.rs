//! Teachers that are made of the student.

use super::Said;
use crate::config::{EstimatorKind, LossKind, TeacherKind, TrainConfig};

pub(super) fn agrees(config: &TrainConfig) -> Option<Said> {
    let distillation = config.distillation.as_ref()?;
    let (objective, rollout) = (&config.objective, &config.rollout);
    let same = distillation.kind.is_own() && !distillation.tells_teacher();
    let rewards = objective.loss.is_policy() && objective.estimator != EstimatorKind::Zero;
    let pulls = objective.kl_loss_coef > 0.0 || objective.entropy_coef > 0.0;
    let own_samples = rollout.teacher_temperature == rollout.temperature;
    let teaches = match objective.loss {
        LossKind::Sft => rollout.has_labels() || !own_samples,
        _ => rewards || pulls || config.sft.coef > 0.0,
    };
    (same && !teaches).then(|| {
        let reason = format!(
            "a teacher of type {} that sees what the student sees, and nothing else to learn \
             from: it starts as the student, the two agree, and the expected gradient is zero at \
             every step",
            match distillation.kind {
                TeacherKind::Ema => "ema",
                _ => "start",
            }
        );
        (reason, "tell the teacher more with --opd-teacher-prompt-key or --opd-teacher-prompt-template, or add an estimator of rewards or --sft-coef")
    })
}

pub(super) fn never_moves(config: &TrainConfig) -> Option<Said> {
    let distillation = config.distillation.as_ref()?;
    (distillation.kind == TeacherKind::Ema && distillation.ema_decay == 1.0).then(|| {
        let reason = "ema_decay 1: the average never takes anything from the student, and stays \
                      what it was before training";
        (reason.into(), "set --opd-ema-decay below 1, or use --opd-type start")
    })
}

pub(super) fn decay_not_read(config: &TrainConfig) -> Option<Said> {
    let distillation = config.distillation.as_ref()?;
    let set = distillation.ema_decay != crate::config::DistillationConfig::default().ema_decay;
    (set && distillation.kind != TeacherKind::Ema).then(|| {
        let reason = "ema_decay with a teacher that does not follow the student: it does nothing";
        (reason.into(), "use --opd-type ema, or drop --opd-ema-decay")
    })
}
