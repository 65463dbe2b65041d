//! The task: sort eight digits.
//!
//! A prompt is eight random digits and `=`, as `83120975=`; its answer the same digits in
//! ascending order, `01235789`, then EOS.

mod example;
mod order;
mod split;

pub use self::{
    example::{Example, SOURCE, examples, prompts},
    split::Split,
};
