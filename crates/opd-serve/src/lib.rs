#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod engine;
mod error;
mod http;
mod item;
mod key;
mod metrics;
mod model;
mod options;
mod queue;
mod running;
mod server;
pub mod wire;
mod worker;

pub use self::{
    error::{Error, Result},
    item::{Item, NamedIds, NextToken, Position, Scored},
    key::Key,
    model::ServedModel,
    options::{Limits, Options},
    running::{Running, Stop},
    server::Server,
    worker::Worker,
};
