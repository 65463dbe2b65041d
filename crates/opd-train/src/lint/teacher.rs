//! What the teacher's signal comes to.

use super::Said;
use crate::config::{EstimatorKind, LossKind, TeacherKind, TrainConfig};

pub(super) fn divergence_without_teacher(config: &TrainConfig) -> Option<Said> {
    let loss = config.objective.loss;
    (loss.compares_distributions() && config.distillation.is_none()).then(|| {
        let reason =
            format!("the loss {loss:?} compares the student with a teacher, and there is none");
        (reason, "add --use-opd --opd-type in-process --opd-teacher-load DIR")
    })
}

pub(super) fn divergence_across_tokenizers(config: &TrainConfig) -> Option<Said> {
    let loss = config.objective.loss;
    let teachers = config.all_teachers();
    let other = teachers.iter().find(|teacher| teacher.tokenizer.is_some())?;
    (loss.compares_distributions() && !loss.is_cross_vocabulary()).then(|| {
        let reason = format!(
            "the loss {loss:?} compares distributions over one vocabulary, and teacher `{}` has a \
             tokenizer of its own: its ids stand for other texts",
            other.name
        );
        (reason, "take --loss uld or gold, or a loss of the sampled tokens")
    })
}

pub(super) fn one_vocabulary(config: &TrainConfig) -> Option<Said> {
    let loss = config.objective.loss;
    let own = config.all_teachers().iter().any(|teacher| teacher.tokenizer.is_some());
    (loss.is_cross_vocabulary() && config.distillation.is_some() && !own).then(|| {
        let reason = format!(
            "the loss {loss:?} sorts the probabilities of two vocabularies, and forgets which \
             token each is of; this teacher's tokens are the student's"
        );
        (reason, "take --loss jsd, or name another tokenizer with --opd-teacher-tokenizer")
    })
}

pub(super) fn nothing_to_learn(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    if !objective.loss.is_policy() || objective.estimator != EstimatorKind::Zero {
        return None;
    }
    match &config.distillation {
        None if objective.loss == LossKind::MiniLlm => None,
        None => Some((
            "there is no teacher and the estimator `zero` ignores rewards: nothing would be trained".into(),
            "add --use-opd with a teacher, or choose --advantage-estimator",
        )),
        Some(distillation) if distillation.kl_coef == 0.0 => Some((
            "kl_coef of the teacher is 0 and the estimator `zero` ignores rewards: every \
             advantage would be 0"
                .into(),
            "set --opd-kl-coef above 0, or choose --advantage-estimator",
        )),
        Some(_) => None,
    }
}

pub(super) fn other_temperature(config: &TrainConfig) -> Option<Said> {
    let distillation = config.distillation.as_ref()?;
    let t = config.rollout.temperature;
    let remote = config.all_teachers().iter().any(|teacher| teacher.kind.is_remote());
    (remote && t != 1.0 && distillation.accept_temperature_bias).then(|| {
        let reason = format!(
            "the student is sampled and scored at temperature {t}, its teacher at 1: a student \
             that has become the teacher would still be pushed away from it"
        );
        (reason, "set --rollout-temperature 1, or use a teacher that scores at any temperature")
    })
}

pub(super) fn temperature_unknown(config: &TrainConfig) -> Option<Said> {
    let distillation = config.distillation.as_ref()?;
    let t = config.rollout.temperature;
    let teachers = config.all_teachers();
    let server = teachers.iter().find(|teacher| teacher.kind == TeacherKind::Sglang)?;
    (t != 1.0 && !distillation.accept_temperature_bias).then(|| {
        let reason = format!(
            "the student is sampled at temperature {t}, and whether teacher `{}` can score at it \
             is asked on connecting: `opd serve` does, SGLang scores at 1 only, and the run then \
             ends before training",
            server.name
        );
        (
            reason,
            "with SGLang itself set --rollout-temperature 1, or take the bias knowingly with \
             --opd-accept-temperature-bias",
        )
    })
}

pub(super) fn whitened_distillation(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let pure = objective.estimator == EstimatorKind::Zero && objective.loss.is_policy();
    let distils = config.distillation.is_some();
    (pure && distils && objective.whiten).then(|| {
        let reason = "whitening advantages that hold the teacher's signal alone: it cancels \
                      kl_coef, and centres the signal, so that half of all tokens are pushed \
                      down however good they are";
        (reason.into(), "drop --normalize-advantages, or add an estimator of rewards")
    })
}
