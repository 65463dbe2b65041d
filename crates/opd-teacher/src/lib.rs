#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod candidates;
mod distribution;
mod error;
mod in_process;

pub use self::{
    distribution::{DistributionTeacher, States},
    error::{Error, Result},
    in_process::InProcessTeacher,
};
