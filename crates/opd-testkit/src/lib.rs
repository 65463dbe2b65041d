//! Golden vectors, gradient checks and tiny models for the tests of the opd crates.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod close;
mod golden_model;

pub use close::assert_close;
pub use golden_model::{GoldenCase, GoldenModel};
