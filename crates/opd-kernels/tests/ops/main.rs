//! The ops of a transformer's forward and backward against plain formulas and central
//! differences, the bits of other thread counts, and messages.
#![allow(clippy::unwrap_used)]

mod attention;
mod embedding;
mod in_place;
mod narrow;
mod refusal;
mod rms_norm;
mod rotary;
mod scans;
mod swiglu;
mod threads;
mod twins;

use candle_core::{DType, Tensor};
use opd_testkit::{host, tensor};

fn t64(values: &[f64], dims: impl Into<candle_core::Shape>) -> Tensor {
    tensor(values, dims, DType::F64)
}

fn ids(values: &[u32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &candle_core::Device::Cpu).unwrap()
}

/// `sum_i weights_i values_i`: a scalar whose gradient in `values` is `weights`.
fn weighted(values: &Tensor, weights: &[f64]) -> f64 {
    host(values).iter().zip(weights).map(|(a, b)| a * b).sum()
}
