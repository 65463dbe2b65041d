#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod assets;
mod error;
mod layout;
pub mod sort8;
mod write;

pub use self::{
    error::{Error, Result},
    layout::{DataSizes, Layout, materialize, materialize_with},
};
