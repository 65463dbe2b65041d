//! Log-prob and divergence kernels against golden vectors, their definitions, central
//! differences, and the bits of other thread counts.
#![allow(clippy::unwrap_used)]

mod bias;
mod cross_vocabulary;
mod definition;
mod divergence_loss;
mod edges;
mod golden;
mod gradient;
mod head;
mod narrow;
mod parts;
mod refusal;
mod row_loss;
mod rows;
mod score_edges;
mod scores;
mod support;
mod threads;
mod wide;

use candle_core::{DType, Device, Result, Tensor, Var};

/// Repeatable numbers in `-scale..scale`.
fn numbers(n: usize, seed: u64, scale: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n).map(|_| scale * (2.0 * next() - 1.0)).collect()
}

fn matrix(values: &[f64], rows: usize, cols: usize, dtype: DType) -> Var {
    let values = Tensor::from_slice(values, (rows, cols), &Device::Cpu).unwrap();
    Var::from_tensor(&values.to_dtype(dtype).unwrap()).unwrap()
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

fn ids(values: &[u32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `sum_t weights_t values_t` in f64.
fn weighted(values: &Tensor, weights: &[f64]) -> Result<Tensor> {
    (values.to_dtype(DType::F64)? * vector(weights))?.sum_all()
}

/// Gradient of a scalar with respect to each variable.
fn gradients(of: &Tensor, with_respect_to: &[&Var]) -> Vec<Vec<f64>> {
    let store = of.backward().unwrap();
    let gradient = |var: &&Var| host(store.get(var.as_tensor()).unwrap());
    with_respect_to.iter().map(gradient).collect()
}

fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs();
        assert!(off <= tolerance(i), "{what}, entry {i}: {got}, expected {want}, off by {off:e}");
    }
}

/// The largest absolute value of the row that each entry is in.
fn row_largest(values: &[f64], width: usize) -> Vec<f64> {
    let largest = |row: &[f64]| row.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    values.chunks(width).flat_map(|row| vec![largest(row); row.len()]).collect()
}
