//! Settings that nothing reads.

use super::Said;
use crate::config::{
    CorrectionKind, CriticConfig, CriticKind, EstimatorKind, LossKind, TrainConfig, TruncatedKind,
};

pub(super) fn reward(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    (!objective.loss.is_policy() && objective.estimator != EstimatorKind::Zero).then(|| {
        let reason = format!(
            "the loss {:?} reads no advantages: the rewards of the estimator {:?} would not be \
             learned from",
            objective.loss, objective.estimator
        );
        (
            reason,
            "use a policy loss such as --loss importance_sampling, or --advantage-estimator zero",
        )
    })
}

pub(super) fn signal(config: &TrainConfig) -> Option<Said> {
    let distillation = config.distillation.as_ref()?;
    if config.objective.loss == LossKind::MiniLlm {
        let set = distillation.discount != 0.0
            || distillation.extrapolation != 1.0
            || distillation.prefix_weight != 0.0
            || distillation.prefix_ratio != 0.0;
        let reason = "the loss MiniLlm has a signal of its own, all that follows a token: \
                      discount, extrapolation, prefix_weight and prefix_ratio do nothing";
        let remedy = "drop them, or use --loss importance_sampling";
        return set.then(|| (reason.into(), remedy));
    }
    let set = distillation.kl_coef != 1.0
        || distillation.discount != 0.0
        || distillation.extrapolation != 1.0
        || distillation.prefix_weight != 0.0
        || distillation.prefix_ratio != 0.0
        || config.objective.whiten;
    (set && !config.objective.loss.is_policy()).then(|| {
        let reason = format!(
            "the loss {:?} reads no advantages: kl_coef, discount, extrapolation, prefix_weight, \
             prefix_ratio and whitening of the distillation signal do nothing",
            config.objective.loss
        );
        (reason, "drop them, or use a policy loss such as --loss importance_sampling")
    })
}

pub(super) fn kl_coef(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    (objective.kl_coef > 0.0 && !objective.estimator.reads_kl_coef()).then(|| {
        let reason = format!(
            "objective.kl_coef: the estimator {:?} has no KL to the start policy in its reward",
            objective.estimator
        );
        (reason, "use --kl-loss-coef, or --advantage-estimator ppo or reinforce_plus_plus")
    })
}

pub(super) fn gamma(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    (objective.gamma != 1.0 && !objective.estimator.reads_gamma()).then(|| {
        let reason = format!("gamma: the estimator {:?} discounts nothing", objective.estimator);
        (reason, "drop --gamma, or use --advantage-estimator reinforce; the discount of the teacher's signal is --opd-kl-discount")
    })
}

pub(super) fn lambda(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    (objective.lambda != 1.0 && objective.estimator != EstimatorKind::Ppo).then(|| {
        let reason =
            format!("lambda: the estimator {:?} has no critic to trust", objective.estimator);
        (reason, "drop --lambd, or use --advantage-estimator ppo")
    })
}

pub(super) fn critic(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let set = objective.critic != CriticConfig::default();
    (set && objective.estimator != EstimatorKind::Ppo).then(|| {
        let reason = format!(
            "settings of a critic: the estimator {:?} reads no values, and none would be trained",
            objective.estimator
        );
        let remedy = "use --advantage-estimator ppo, or drop --critic, --critic-load, --critic-lr, \
                      --value-clip and --value-loss-coef";
        (reason, remedy)
    })
}

pub(super) fn value_loss(config: &TrainConfig) -> Option<Said> {
    let CriticConfig { kind, student_coef, .. } = config.objective.critic;
    let ppo = config.objective.estimator == EstimatorKind::Ppo;
    (ppo && kind == CriticKind::Model && student_coef > 0.0).then(|| {
        let reason = "value_loss_coef with a critic that is a model of its own: its loss does not \
                      depend on the student, and moves it nowhere";
        (reason.into(), "drop --value-loss-coef, or use --critic head")
    })
}

pub(super) fn value_clip(config: &TrainConfig) -> Option<Said> {
    let clips = config.objective.critic.value_clip != CriticConfig::default().value_clip;
    let ppo = config.objective.estimator == EstimatorKind::Ppo;
    (ppo && clips && config.optimizer.updates_per_batch == 1).then(|| {
        let reason = "value_clip with updates_per_batch 1: the critic has not moved when its only \
                      update of a batch is made, so that no value is clipped";
        (reason.into(), "set --updates-per-batch above 1, or drop --value-clip")
    })
}

pub(super) fn penalty(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let penalises =
        matches!(objective.truncated, TruncatedKind::Penalise | TruncatedKind::Overlong);
    (penalises && objective.estimator == EstimatorKind::Zero).then(|| {
        let reason = "a penalty on the reward of truncated responses with the estimator `zero`, \
                      which ignores rewards";
        (reason.into(), "use --truncated-responses mask, or an estimator of rewards")
    })
}

pub(super) fn kl_loss(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let pulls = objective.loss.is_policy() && objective.loss != LossKind::MiniLlm;
    (objective.kl_loss_coef > 0.0 && !pulls).then(|| {
        let reason =
            format!("kl_loss_coef: the loss {:?} has no pull to the start policy", objective.loss);
        (reason, "drop --kl-loss-coef, or use a policy loss")
    })
}

pub(super) fn correction(config: &TrainConfig) -> Option<Said> {
    let objective = &config.objective;
    let reads = objective.loss.is_policy() && objective.loss != LossKind::MiniLlm;
    let set = objective.correction.kind != CorrectionKind::None || objective.opsm_delta.is_some();
    (set && !reads).then(|| {
        let own = match objective.loss {
            LossKind::MiniLlm => "has importance weights of its own",
            _ => "takes responses as given",
        };
        let reason = format!(
            "the loss {:?} {own}: the sampler correction and opsm_delta do nothing",
            objective.loss
        );
        (reason, "drop them, or use a policy loss such as --loss importance_sampling")
    })
}
