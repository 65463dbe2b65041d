#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod groups;
mod kl;
mod logprob;
mod ragged;
mod rollout;
mod rollout_batch;
mod rows;
mod scored;
mod span;
mod teacher;

pub use self::{
    error::{Error, Result},
    groups::Groups,
    kl::KlEstimator,
    ragged::Ragged,
    rollout::{Author, Finish, Rollout, Source},
    rollout_batch::RolloutBatch,
    rows::Rows,
    scored::ScoredBatch,
    span::SpanToken,
    teacher::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, TopLogprobs, Wanted},
};
