#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backoff;
mod circuit;
mod client;
mod endpoint;
mod error;
mod exchange;
mod key;
mod pool;
mod request;
mod said;
mod settings;
mod trial;

pub use self::{
    client::{Answer, Client},
    error::{Error, Result},
    key::ApiKey,
    request::{Request, Verdict},
    settings::{CircuitRules, Retry, Settings},
};
