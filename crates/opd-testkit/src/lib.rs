//! Golden vectors, gradient checks and tiny models for the tests of the opd crates.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod close;
mod differences;
mod golden_model;
pub mod http;
mod hub;
mod model_dir;
mod mount;
mod numbers;
mod tensors;
mod threads;
mod tokenizers;

pub use close::assert_close;
pub use differences::assert_gradient;
pub use golden_model::{GoldenCase, GoldenModel};
pub use hub::{COMMIT, HubStub};
pub use model_dir::ModelDir;
pub use mount::{Mount, skipped};
pub use numbers::numbers;
pub use tensors::{host, tensor};
pub use threads::same_on_any_number_of_threads;
pub use tokenizers::{write_byte_fallback, write_byte_level};
