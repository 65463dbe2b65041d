#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod in_process;

pub use self::{
    error::{Error, Result},
    in_process::InProcessTeacher,
};
