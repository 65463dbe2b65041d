#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod answers;
mod base_url;
mod candidates;
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
mod remote;
mod remote_settings;
mod replay;
mod routed;
mod sglang;
mod vllm;

pub use self::{
    base_url::base_url,
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
};
