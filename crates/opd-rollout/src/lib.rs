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
mod stop;
mod token_f1;
mod truncation;

pub use self::{
    engine::{Generation, Request, RolloutEngine},
    error::{Error, Result},
    in_process::InProcess,
    prompts::{Example, Fields, PromptSet},
    reward::{ExactMatch, Reward},
    sampling::{Sampling, Strategy},
    stop::StopStrings,
    token_f1::TokenF1,
    truncation::Truncation,
};
