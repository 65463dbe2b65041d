#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod engine;
mod error;
mod in_process;
mod mixture;
mod prompts;
mod reward;
mod run;
mod sampling;
mod schedule;
mod token_f1;

pub use self::{
    engine::{Generation, Request, RolloutEngine},
    error::{Error, Result},
    in_process::InProcess,
    prompts::{Example, Fields, PromptSet},
    reward::{ExactMatch, Reward},
    sampling::{Sampling, Strategy},
    token_f1::TokenF1,
};
