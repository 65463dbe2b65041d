#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod aggregation;
mod error;
mod loss_batch;
mod objective;
mod policy;
mod reference_kl;

pub use opd_kernels::Divergence;

pub use self::{
    aggregation::{Aggregation, Totals},
    error::{Error, Result},
    loss_batch::LossBatch,
    objective::{
        CrossEntropy, DivergenceObjective, Metric, Needs, Objective, ObjectiveInputs,
        ObjectiveOutput, PolicyObjective, TeacherStates,
    },
    policy::{
        Cispo, Clip, Gspo, ImportanceSampling, PolicyInputs, PolicyLoss, PolicyLossOutput,
        PolicyTokens, PpoClip, Reinforce,
    },
    reference_kl::ReferenceKl,
};
