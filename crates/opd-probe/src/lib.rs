#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod checks;
mod error;
mod report;
mod samples;
mod subject;
mod tokenizer;

pub use self::{
    checks::{Needs, probe},
    error::{Error, Result},
    report::{Check, Outcome, Report},
    subject::{Kind, Subject},
};
