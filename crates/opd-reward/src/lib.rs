#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod exact_match;
mod math;
mod pattern;
mod remote;
mod reward;
mod token_f1;

pub use self::{
    error::{Error, Result},
    exact_match::ExactMatch,
    math::{AnswerForm, MathAnswer, boxed, same_answer},
    pattern::Pattern,
    remote::RemoteReward,
    reward::{Answer, Reward},
    token_f1::TokenF1,
};
