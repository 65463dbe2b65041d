//! What is said over the wire: requests as they are read and checked, answers as they are
//! written. Pure functions of bytes; no sockets, no model.

mod answer;
mod completion_answer;
mod completion_request;
mod generate_answer;
mod generate_request;
mod numbers;
mod one_or_many;
mod prompt;
mod rules;
mod sampling_params;

pub(crate) use self::{
    completion_answer::completion_answer,
    generate_answer::{Sender, generate_answer},
};
pub use self::{
    completion_request::{Completion, CompletionRequest},
    generate_request::{Generate, GenerateRequest},
    rules::Rules,
};
