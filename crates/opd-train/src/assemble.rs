//! From names in the configuration to the traits that the trainer knows: the only place where
//! algorithms are told apart.

use candle_core::Device;
use opd_advantage::{
    AdvantageEstimator, Baseline, BySource, DiscountedReturn, DrGrpo, ExtrapolatedKl, FutureKl,
    Gae, Grpo, MaxRl, Opo, PassAtK, RawReward, ReinforcePlusPlus, ReinforcePlusPlusBaseline,
    ReverseKl, Rloo, Truncation, ZeroAdvantage,
};
use opd_batch::KlEstimator;
use opd_loss::{
    Aggregation, Cispo, Clip, CrossEntropy, CrossVocabulary, CrossVocabularyObjective, Direction,
    Divergence, DivergenceObjective, Grain, Gspo, ImportanceSampling, MiniLlm, Objective, Outside,
    PolicyLoss, PolicyObjective, PpoClip, ReferenceKl, Reinforce, SamplerCorrection, SequenceMask,
    Support, Tail, TopKObjective,
};
use opd_models::CausalLm;

use crate::{
    MovingAverage, Parts, Result,
    config::{
        AggregationKind, BaselineKind, CorrectionGrain, CorrectionKind, DistillationConfig,
        EstimatorKind, KlKind, LossKind, ObjectiveConfig, SupportKind, TailKind, TeacherKind,
        TrainConfig, TruncatedKind,
    },
    teacher_routes::factors,
    teachers::{Demands, Teachers},
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
    let compares = config.objective.loss.compares_distributions();
    let distribution = teachers.as_ref().filter(|_| compares).and_then(|t| t.distribution.clone());
    let loss = config.objective.loss;
    let asks = loss.is_policy() || (loss.is_top_k() && distribution.is_none());
    let scores = teachers.as_ref().filter(|_| asks);
    let parts = Parts {
        teacher: scores.map(|teachers| teachers.scorer.clone()),
        teacher_names: scores.map(|teachers| teachers.names.clone()).unwrap_or_default(),
        distribution,
        writer: teachers.as_ref().and_then(|teachers| teachers.in_process.clone()),
        average: teachers.as_ref().and_then(|teachers| average(config, teachers)),
        supervised: None,
        reward: config.reward.build(config.seed)?,
        estimator: estimator(config),
        truncation: truncation(config),
        objective: objective(config, teachers.as_ref(), demands.student)?,
        aggregation: aggregation(config),
    };
    Ok((parts, teachers))
}

/// The teacher as one that follows the student, if it does.
fn average(config: &TrainConfig, teachers: &Teachers) -> Option<MovingAverage> {
    let distillation = config.distillation.as_ref()?;
    let teacher = teachers.in_process.clone().filter(|_| distillation.kind == TeacherKind::Ema)?;
    Some(MovingAverage { teacher, decay: distillation.ema_decay })
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
        EstimatorKind::Opo => Box::new(Opo),
        EstimatorKind::MaxRl => Box::new(MaxRl),
        EstimatorKind::PassAtK => Box::new(PassAtK { k: objective.pass_k }),
        EstimatorKind::Reinforce => Box::new(DiscountedReturn {
            gamma: objective.gamma as f32,
            baseline: match objective.baseline {
                BaselineKind::None => Baseline::None,
                BaselineKind::BatchMean => Baseline::BatchMean,
                BaselineKind::GroupMean => Baseline::GroupMean,
                BaselineKind::LeaveOneOut => Baseline::LeaveOneOut,
            },
        }),
        EstimatorKind::ReinforcePlusPlus => {
            Box::new(ReinforcePlusPlus { kl_coef, kl, gamma: objective.gamma as f32 })
        }
        EstimatorKind::ReinforcePlusPlusBaseline => {
            Box::new(ReinforcePlusPlusBaseline { kl_coef, kl })
        }
        EstimatorKind::Ppo => Box::new(gae(objective)),
    };
    let teacher = config.distillation.as_ref().filter(|_| objective.loss.is_policy());
    let with_signal: Box<dyn AdvantageEstimator> = match teacher {
        None => base,
        Some(distillation) => {
            let signal = signal(config, distillation);
            match factors(&config.all_teachers()) {
                None => Box::new(base.plus(signal)),
                Some((factors, others)) => {
                    Box::new(base.plus(BySource { inner: signal, factors, others }))
                }
            }
        }
    };
    let whitens = objective.whiten || objective.estimator.whitens();
    if whitens { Box::new(with_signal.whitened()) } else { with_signal }
}

/// What turns a critic's values into advantages, and into the returns that it learns.
pub(crate) fn gae(config: &ObjectiveConfig) -> Gae {
    Gae {
        kl_coef: config.kl_coef as f32,
        kl: KlEstimator::K1,
        gamma: config.gamma as f32,
        lambda: config.lambda as f32,
    }
}

/// The distillation signal on the sampled tokens.
fn signal(whole: &TrainConfig, config: &DistillationConfig) -> Box<dyn AdvantageEstimator> {
    let (coef, discount) = (config.kl_coef as f32, config.discount as f32);
    if whole.objective.loss == LossKind::MiniLlm {
        let length_normalised = whole.objective.length_normalised;
        return Box::new(FutureKl { coef, length_normalised });
    }
    let signal: Box<dyn AdvantageEstimator> = match config.extrapolation as f32 {
        1.0 => Box::new(ReverseKl { coef, discount }),
        lambda => Box::new(ExtrapolatedKl { coef, lambda, discount }),
    };
    let signal = match config.prefix_ratio as f32 {
        0.0 => signal,
        power => Box::new(signal.prefix_ratio(power)),
    };
    match config.prefix_weight as f32 {
        0.0 => signal,
        gamma => Box::new(signal.prefix_weighted(gamma)),
    }
}

fn truncation(config: &TrainConfig) -> Truncation {
    let objective = &config.objective;
    let penalty = objective.truncation_penalty as f32;
    match objective.truncated {
        TruncatedKind::Keep => Truncation::Keep,
        TruncatedKind::Mask => Truncation::Mask,
        TruncatedKind::Penalise => Truncation::Penalise { penalty },
        TruncatedKind::Overlong => Truncation::Overlong {
            limit: config.rollout.max_response_tokens,
            buffer: objective.overlong_buffer,
            penalty,
        },
    }
}

fn objective(
    whole: &TrainConfig,
    teachers: Option<&Teachers>,
    student: &CausalLm,
) -> Result<Box<dyn Objective>> {
    let config = &whole.objective;
    let clip = Clip { below: config.clip.below as f32, above: config.clip.above as f32 };
    let policy: Box<dyn PolicyLoss> = match config.loss {
        LossKind::ReverseKl => return divergence(config, Divergence::ReverseKl),
        LossKind::ForwardKl => return divergence(config, Divergence::ForwardKl),
        LossKind::Jsd => return divergence(config, Divergence::Jsd { beta: config.jsd_beta }),
        LossKind::SkewForwardKl => {
            return divergence(config, Divergence::SkewForwardKl { alpha: config.skew_alpha });
        }
        LossKind::SkewReverseKl => {
            return divergence(config, Divergence::SkewReverseKl { alpha: config.skew_alpha });
        }
        LossKind::MixedKl => {
            let mixed = DivergenceObjective::mixed(config.mixed_forward)?;
            return Ok(Box::new(mixed.with_entropy(config.entropy_coef)?));
        }
        LossKind::Tvd => {
            let distance = DivergenceObjective::total_variation();
            return Ok(Box::new(distance.with_entropy(config.entropy_coef)?));
        }
        LossKind::Uld | LossKind::Gold => {
            let known = teachers.and_then(|teachers| teachers.counterparts.clone());
            let shared = known.filter(|_| config.loss == LossKind::Gold);
            let how = match shared {
                None => CrossVocabulary::unmatched(student.config().vocab_size),
                Some(counterparts) => CrossVocabulary {
                    counterparts,
                    beta: config.jsd_beta,
                    matched: config.gold_matched,
                    unmatched: config.gold_unmatched,
                },
            };
            let distance = CrossVocabularyObjective::new(how);
            return Ok(Box::new(distance.with_entropy(config.entropy_coef)?));
        }
        LossKind::TopKForwardKl => return top_k(config, Direction::Forward),
        LossKind::TopKReverseKl => return top_k(config, Direction::Reverse),
        LossKind::Sft => return Ok(Box::new(CrossEntropy)),
        LossKind::MiniLlm => {
            let coef = whole.distillation.as_ref().map_or(1.0, |teacher| teacher.kl_coef);
            return Ok(Box::new(MiniLlm::new(coef, clip)?.with_entropy(config.entropy_coef)?));
        }
        LossKind::ImportanceSampling => Box::new(ImportanceSampling),
        LossKind::Reinforce => Box::new(Reinforce),
        LossKind::PpoClip => Box::new(PpoClip { clip, dual: config.clip.dual.map(|c| c as f32) }),
        LossKind::Gspo => Box::new(Gspo { clip }),
        LossKind::Cispo => Box::new(Cispo { clip }),
    };
    let mut objective =
        PolicyObjective::new(corrected(policy, config)).with_entropy(config.entropy_coef)?;
    if config.kl_loss_coef > 0.0 {
        let estimator = match config.kl_loss_type {
            KlKind::K1 => KlEstimator::K1,
            KlKind::K2 => KlEstimator::K2,
            KlKind::K3 => KlEstimator::K3,
            KlKind::LowVarKl => KlEstimator::LowVar,
        };
        let coef = config.kl_loss_coef as f32;
        let reference = match config.kl_loss_unbiased {
            true => ReferenceKl::importance_weighted(coef, estimator)?,
            false => ReferenceKl::new(coef, estimator)?,
        };
        objective = objective.with_reference_kl(reference);
    }
    Ok(Box::new(objective))
}

/// A policy loss with what corrects it for sampler mismatch and for sequences that were left.
fn corrected(mut policy: Box<dyn PolicyLoss>, config: &ObjectiveConfig) -> Box<dyn PolicyLoss> {
    let outside = match config.correction.kind {
        CorrectionKind::None => None,
        CorrectionKind::Truncate => Some(Outside::Truncate),
        CorrectionKind::Reject => Some(Outside::Reject),
        CorrectionKind::Mask => Some(Outside::Mask),
    };
    if let Some(outside) = outside {
        let grain = match config.correction.grain {
            CorrectionGrain::Token => Grain::Token,
            CorrectionGrain::Sequence => Grain::Sequence,
            CorrectionGrain::Geometric => Grain::Geometric,
        };
        let (low, high) = (config.correction.low, config.correction.high);
        policy = Box::new(policy.weighted(SamplerCorrection { grain, outside, low, high }));
    }
    match config.opsm_delta {
        Some(delta) => Box::new(policy.weighted(SequenceMask { delta })),
        None => policy,
    }
}

fn top_k(config: &ObjectiveConfig, direction: Direction) -> Result<Box<dyn Objective>> {
    let support = match config.top_k_support {
        SupportKind::Teacher => Support::Teacher,
        SupportKind::Student => Support::Student,
    };
    let tail = match config.top_k_tail {
        TailKind::Bucket => Tail::Bucket,
        TailKind::Renormalised => Tail::Renormalised,
        TailKind::Truncated => Tail::Truncated,
    };
    let objective = match config.allow_biased {
        true => TopKObjective::biased(config.top_k, support, tail, direction)?,
        false => TopKObjective::new(config.top_k, support, tail, direction)?,
    };
    Ok(Box::new(objective.with_entropy(config.entropy_coef)?))
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
