#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod by_source;
mod discounted;
mod discounted_return;
mod dr_grpo;
mod error;
mod estimator;
mod extrapolated_kl;
mod future_kl;
mod gae;
mod group;
mod grpo;
mod max_rl;
mod opo;
mod output;
mod pass_at_k;
mod plus;
mod prefix_ratio;
mod prefix_weighted;
mod raw_reward;
mod reference_penalty;
mod reinforce_plus_plus;
mod reinforce_plus_plus_baseline;
mod reverse_kl;
mod rloo;
mod setting;
mod truncation;
mod whitened;
mod zero;

pub use self::{
    by_source::BySource,
    discounted_return::{Baseline, DiscountedReturn},
    dr_grpo::DrGrpo,
    error::{Error, Result},
    estimator::AdvantageEstimator,
    extrapolated_kl::ExtrapolatedKl,
    future_kl::FutureKl,
    gae::{Gae, GaeOutput},
    grpo::Grpo,
    max_rl::MaxRl,
    opo::Opo,
    pass_at_k::PassAtK,
    plus::Plus,
    prefix_ratio::{PrefixRatio, prefix_ratios},
    prefix_weighted::PrefixWeighted,
    raw_reward::RawReward,
    reinforce_plus_plus::ReinforcePlusPlus,
    reinforce_plus_plus_baseline::ReinforcePlusPlusBaseline,
    reverse_kl::ReverseKl,
    rloo::Rloo,
    truncation::Truncation,
    whitened::Whitened,
    zero::ZeroAdvantage,
};
