//! From names in the configuration to the traits that the trainer knows: the only place where
//! algorithms are told apart.

use std::{path::PathBuf, sync::Arc};

use candle_core::{DType, Device};
use opd_advantage::{
    AdvantageEstimator, DrGrpo, Grpo, RawReward, ReinforcePlusPlus, ReinforcePlusPlusBaseline,
    ReverseKl, Rloo, ZeroAdvantage,
};
use opd_batch::KlEstimator;
use opd_loss::{
    Aggregation, Cispo, Clip, Divergence, DivergenceObjective, Gspo, ImportanceSampling, Objective,
    PolicyLoss, PolicyObjective, PpoClip, ReferenceKl, Reinforce,
};
use opd_models::CausalLm;
use opd_rollout::ExactMatch;
use opd_teacher::InProcessTeacher;

use crate::{
    Parts, Result,
    config::{
        AggregationKind, ConfigError, DistillationConfig, EstimatorKind, KlKind, LossKind,
        ObjectiveConfig, TeacherKind, TrainConfig,
    },
    run::{Checkpoint, RunDir},
};

/// The parts of a run, and its in-process teacher for evaluation.
pub(crate) fn parts(
    config: &TrainConfig,
    student: &CausalLm,
    longest: usize,
    device: &Device,
) -> Result<(Parts, Option<Arc<InProcessTeacher>>)> {
    let teacher = match &config.distillation {
        None => None,
        Some(distillation) => {
            let teacher = InProcessTeacher::load(teacher_dir(distillation)?, DType::F32, device)?;
            teacher.check_student(student, longest)?;
            Some(Arc::new(teacher))
        }
    };
    let compares = config.objective.loss.is_divergence();
    let parts = Parts {
        teacher: teacher.clone().filter(|_| !compares).map(|teacher| teacher as _),
        distribution: teacher.clone().filter(|_| compares).map(|teacher| teacher as _),
        reward: Box::new(ExactMatch),
        estimator: estimator(config),
        objective: objective(&config.objective)?,
        aggregation: aggregation(config),
    };
    Ok((parts, teacher))
}

fn teacher_dir(config: &DistillationConfig) -> Result<PathBuf> {
    if config.kind == TeacherKind::Sglang {
        return Err(ConfigError::Conflict {
            what: "--opd-type sglang: this version has no HTTP teacher".into(),
            remedy: "use --opd-type in-process with --opd-teacher-load DIR",
        }
        .into());
    }
    let dir = config.teacher.clone().unwrap_or_default();
    let Some(step) = config.teacher_step else { return Ok(dir) };
    let checkpoint = RunDir::checkpoint_of(&dir, step);
    if !dir.join("checkpoints").is_dir() {
        return Err(ConfigError::Conflict {
            what: format!(
                "--opd-teacher-ckpt-step {step}: {} is not one of our run directories (it has no `checkpoints`)",
                dir.display()
            ),
            remedy: "drop --opd-teacher-ckpt-step to load a plain model directory",
        }
        .into());
    }
    Ok(Checkpoint::open(checkpoint)?.path().to_owned())
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
        Some(distillation) => Box::new(base.plus(ReverseKl {
            coef: distillation.kl_coef as f32,
            discount: distillation.discount as f32,
        })),
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
