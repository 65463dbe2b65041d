#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alignment;
mod answers;
mod base_url;
mod candidates;
mod cross_tokenizer;
mod cross_tokenizer_states;
mod digest;
mod distribution;
mod ensemble;
mod error;
#[cfg(test)]
mod fuzz;
mod in_process;
mod journal;
mod journaled;
mod limits;
mod part;
mod protocol;
#[cfg(test)]
mod recorded_batches;
mod remote;
mod remote_settings;
mod replay;
mod routed;
mod sglang;
mod translation;
mod vllm;
mod vocabulary;

pub use self::{
    base_url::base_url,
    cross_tokenizer::CrossTokenizerTeacher,
    cross_tokenizer_states::CrossTokenizerStates,
    distribution::{DistributionTeacher, States},
    ensemble::EnsembleTeacher,
    error::{Error, Result},
    in_process::InProcessTeacher,
    journal::Journal,
    journaled::JournaledTeacher,
    limits::Limits,
    remote_settings::RemoteSettings,
    replay::ReplayTeacher,
    routed::RoutedTeacher,
    sglang::SglangTeacher,
    vllm::VllmTeacher,
    vocabulary::Vocabulary,
};
