use candle_core::{Device, Result, Tensor, Var};
use rayon::prelude::*;

use crate::Size;

const CHUNK: usize = 1 << 16;

/// Repeatable numbers in `-scale..scale`.
fn numbers(n: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut values = vec![0.0; n];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut state = (seed << 40) + chunk as u64 + 0x9e37_79b9_7f4a_7c15;
        for value in values {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *value = scale * ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0);
        }
    });
    values
}

/// A tensor of numbers in `-scale..scale`.
pub(crate) fn tensor(dims: &[usize], seed: u64, scale: f32) -> Result<Tensor> {
    Tensor::from_vec(numbers(dims.iter().product(), seed, scale), dims, &Device::Cpu)
}

/// The same as a leaf of a graph.
pub(crate) fn variable(dims: &[usize], seed: u64, scale: f32) -> Result<Var> {
    Var::from_vec(numbers(dims.iter().product(), seed, scale), dims, &Device::Cpu)
}

/// `per_token` ids of each token: `[T]` for one, else `[T, per_token]`.
pub(crate) fn ids(size: &Size, per_token: usize) -> Result<Tensor> {
    let ids: Vec<u32> =
        (0..size.tokens() * per_token).map(|i| (i * 7919 % size.vocab) as u32).collect();
    match per_token {
        1 => Tensor::from_vec(ids, size.tokens(), &Device::Cpu),
        k => Tensor::from_vec(ids, (size.tokens(), k), &Device::Cpu),
    }
}
