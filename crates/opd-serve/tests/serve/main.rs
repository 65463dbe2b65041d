//! The server as its clients meet it, on a free port of this machine.
#![allow(clippy::unwrap_used)]

mod client;
mod completions;
mod faults;
mod fuzz;
mod generation;
mod information;
mod parsing;
mod proxied;
mod python;
mod scores;
mod sharing;
mod shutdown;
