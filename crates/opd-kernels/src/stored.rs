//! Values that a forward keeps in bf16 on the CPU, and that are computed with in f32.

use candle_core::{DType, Tensor};
use half::bf16;

use crate::gpu;

/// The dtype that the values of `tensor` are computed in. A GPU's kernels compute in that which they
/// are given.
pub(crate) fn dtype(tensor: &Tensor) -> DType {
    match tensor.dtype() {
        DType::BF16 if gpu::of(tensor).is_none() => DType::F32,
        own => own,
    }
}

/// [`bf16::to_f32`] without its detour for NaN, which vector code cannot take.
#[inline(always)]
pub(crate) fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}
