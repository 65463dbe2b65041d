//! From names in the configuration to the traits that the trainer knows: the only place where
//! algorithms are told apart.

use candle_core::Device;
use opd_advantage::{
    AdvantageEstimator, BySource, DrGrpo, Grpo, RawReward, ReinforcePlusPlus,
    ReinforcePlusPlusBaseline, ReverseKl, Rloo, ZeroAdvantage,
};
use opd_batch::KlEstimator;
use opd_loss::{
    Aggregation, Cispo, Clip, Divergence, DivergenceObjective, Gspo, ImportanceSampling, Objective,
    PolicyLoss, PolicyObjective, PpoClip, ReferenceKl, Reinforce,
};
use opd_rollout::ExactMatch;

use crate::{
    Parts, Result,
    config::{AggregationKind, EstimatorKind, KlKind, LossKind, ObjectiveConfig, TrainConfig},
    teachers::{self, Demands, Teachers},
};

/// The parts of a run, and who scores its samples.
pub(crate) fn parts(
    config: &TrainConfig,
    demands: Demands<'_>,
    device: &Device,
) -> Result<(Parts, Option<Teachers>)> {
    let teachers = match &config.distillation {
        None => None,
        Some(distillation) => Some(Teachers::new(config, distillation, demands, device)?),
    };
    let compares = config.objective.loss.is_divergence();
    let scores = teachers.as_ref().filter(|_| !compares);
    let distribution = teachers.as_ref().filter(|_| compares).and_then(|t| t.in_process.clone());
    let parts = Parts {
        teacher: scores.map(|teachers| teachers.scorer.clone()),
        teacher_names: scores.map(|teachers| teachers.names.clone()).unwrap_or_default(),
        distribution: distribution.map(|teacher| teacher as _),
        reward: Box::new(ExactMatch),
        estimator: estimator(config),
        objective: objective(&config.objective)?,
        aggregation: aggregation(config),
    };
    Ok((parts, teachers))
}

fn estimator(config: &TrainConfig) -> Box<dyn AdvantageEstimator> {
    let objective = &config.objective;
    let (kl_coef, kl) = (objective.kl_coef as f32, KlEstimator::K1);
    let base: Box<dyn AdvantageEstimator> = match objective.estimator {
        EstimatorKind::Zero => Box::new(ZeroAdvantage),
        EstimatorKind::RawReward => Box::new(RawReward),
        EstimatorKind::Grpo => Box::new(Grpo),
        EstimatorKind::DrGrpo => Box::new(DrGrpo),
        EstimatorKind::Rloo => Box::new(Rloo),
        EstimatorKind::ReinforcePlusPlus => {
            Box::new(ReinforcePlusPlus { kl_coef, kl, gamma: objective.gamma as f32 })
        }
        EstimatorKind::ReinforcePlusPlusBaseline => {
            Box::new(ReinforcePlusPlusBaseline { kl_coef, kl })
        }
    };
    let signal = config.distillation.as_ref().filter(|_| !objective.loss.is_divergence());
    let with_signal: Box<dyn AdvantageEstimator> = match signal {
        None => base,
        Some(distillation) => {
            let coef = distillation.kl_coef as f32;
            let signal = ReverseKl { coef, discount: distillation.discount as f32 };
            match teachers::factors(&config.all_teachers()) {
                None => Box::new(base.plus(signal)),
                Some((factors, others)) => {
                    Box::new(base.plus(BySource { inner: signal, factors, others }))
                }
            }
        }
    };
    let whitens = objective.whiten
        || matches!(
            objective.estimator,
            EstimatorKind::ReinforcePlusPlus | EstimatorKind::ReinforcePlusPlusBaseline
        );
    if whitens { Box::new(with_signal.whitened()) } else { with_signal }
}

fn objective(config: &ObjectiveConfig) -> Result<Box<dyn Objective>> {
    let clip = Clip { below: config.clip.below as f32, above: config.clip.above as f32 };
    let policy: Box<dyn PolicyLoss> = match config.loss {
        LossKind::ReverseKl => return divergence(config, Divergence::ReverseKl),
        LossKind::ForwardKl => return divergence(config, Divergence::ForwardKl),
        LossKind::Jsd => return divergence(config, Divergence::Jsd { beta: config.jsd_beta }),
        LossKind::ImportanceSampling => Box::new(ImportanceSampling),
        LossKind::Reinforce => Box::new(Reinforce),
        LossKind::PpoClip => Box::new(PpoClip { clip, dual: config.clip.dual.map(|c| c as f32) }),
        LossKind::Gspo => Box::new(Gspo { clip }),
        LossKind::Cispo => Box::new(Cispo { clip }),
    };
    let mut objective = PolicyObjective::new(policy).with_entropy(config.entropy_coef)?;
    if config.kl_loss_coef > 0.0 {
        let estimator = match config.kl_loss_type {
            KlKind::K1 => KlEstimator::K1,
            KlKind::K2 => KlEstimator::K2,
            KlKind::K3 => KlEstimator::K3,
            KlKind::LowVarKl => KlEstimator::LowVar,
        };
        let reference = ReferenceKl::new(config.kl_loss_coef as f32, estimator)?;
        objective = objective.with_reference_kl(reference);
    }
    Ok(Box::new(objective))
}

fn divergence(config: &ObjectiveConfig, kind: Divergence) -> Result<Box<dyn Objective>> {
    Ok(Box::new(DivergenceObjective::new(kind)?.with_entropy(config.entropy_coef)?))
}

fn aggregation(config: &TrainConfig) -> Aggregation {
    match config.objective.aggregation {
        AggregationKind::TokenMean => Aggregation::TokenMean,
        AggregationKind::SequenceMeanTokenMean => Aggregation::SequenceMeanTokenMean,
        AggregationKind::TokenSum => Aggregation::TokenSum,
        AggregationKind::SequenceMeanTokenSum => {
            Aggregation::SequenceMeanTokenSum { horizon: config.rollout.max_response_tokens }
        }
    }
}
