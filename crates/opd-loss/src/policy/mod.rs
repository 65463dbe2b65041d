//! Policy losses: a loss of each token from its log-prob, its old log-prob and its advantage.

mod cispo;
mod clip;
mod gspo;
mod importance_sampling;
mod inputs;
mod loss;
mod ppo_clip;
mod reinforce;
mod sampler_correction;
mod sequence_mask;
mod weighted;

pub(crate) use self::clip::surrogate;
pub use self::{
    cispo::Cispo,
    clip::Clip,
    gspo::Gspo,
    importance_sampling::ImportanceSampling,
    inputs::PolicyInputs,
    loss::{PolicyLoss, PolicyLossOutput, PolicyTokens},
    ppo_clip::PpoClip,
    reinforce::Reinforce,
    sampler_correction::{Grain, Outside, SamplerCorrection},
    sequence_mask::SequenceMask,
    weighted::{TokenWeights, Weighted},
};
