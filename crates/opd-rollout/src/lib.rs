#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod engine;
mod error;
mod in_process;
mod mixture;
mod run;
mod sampling;
mod schedule;
mod stop;
mod truncation;

pub use self::{
    engine::{Generation, Request, RolloutEngine},
    error::{Error, Result},
    in_process::{InProcess, packed_tokens},
    run::{LOGIT_ROWS, PROMPT_TOKENS},
    sampling::{Sampling, Strategy},
    stop::StopStrings,
    truncation::Truncation,
};
