#![doc = include_str!("../README.md")]

mod cpu;
mod error;
mod matmul;

pub use self::{
    error::{Error, Result},
    matmul::{linear, linear_grad_input, linear_grad_weight},
};
