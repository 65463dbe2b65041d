//! Whether two answers to a problem of mathematics are the same.

mod answer;
mod expr;
mod final_answer;
mod parse;
mod same;
#[cfg(test)]
mod tests;
mod token;
mod value;

pub use self::{
    answer::MathAnswer,
    final_answer::{AnswerForm, boxed},
    same::same_answer,
};
