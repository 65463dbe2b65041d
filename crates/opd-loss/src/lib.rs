#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod aggregation;
mod error;
mod loss_batch;
mod objective;
mod policy;
mod reference_kl;
mod value_loss;

pub use opd_kernels::{CrossVocabulary, Divergence};

pub use self::{
    aggregation::{Aggregation, Totals},
    error::{Error, Result},
    loss_batch::LossBatch,
    objective::{
        CrossEntropy, CrossVocabularyObjective, Direction, DivergenceObjective, Metric, MiniLlm,
        Needs, Objective, ObjectiveInputs, ObjectiveOutput, PolicyObjective, Support, Tail,
        TeacherStates, TopKObjective, support_kl,
    },
    policy::{
        Cispo, Clip, Grain, Gspo, ImportanceSampling, Outside, PolicyInputs, PolicyLoss,
        PolicyLossOutput, PolicyTokens, PpoClip, Reinforce, SamplerCorrection, SequenceMask,
        TokenWeights, Weighted,
    },
    reference_kl::ReferenceKl,
    value_loss::{ValueLoss, ValueLossOutput},
};
