#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod by_source;
mod discounted;
mod dr_grpo;
mod error;
mod estimator;
mod gae;
mod group;
mod grpo;
mod output;
mod plus;
mod raw_reward;
mod reference_penalty;
mod reinforce_plus_plus;
mod reinforce_plus_plus_baseline;
mod reverse_kl;
mod rloo;
mod setting;
mod whitened;
mod zero;

pub use self::{
    by_source::BySource,
    dr_grpo::DrGrpo,
    error::{Error, Result},
    estimator::AdvantageEstimator,
    gae::{Gae, GaeOutput},
    grpo::Grpo,
    plus::Plus,
    raw_reward::RawReward,
    reinforce_plus_plus::ReinforcePlusPlus,
    reinforce_plus_plus_baseline::ReinforcePlusPlusBaseline,
    reverse_kl::ReverseKl,
    rloo::Rloo,
    whitened::Whitened,
    zero::ZeroAdvantage,
};
