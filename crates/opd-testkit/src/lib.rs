//! Golden vectors, gradient checks and tiny models for the tests of the opd crates.
#![forbid(unsafe_code)]
