//! What the GPU ops share: where a tensor is, its address there, and launches of kernels.
//!
//! The kernels are `cuda/*.cu`. With the feature `cuda` they run on an NVIDIA GPU; in tests and
//! with the feature `cuda-host` the same sources, compiled by the C++ compiler, run on the CPU.
#![cfg_attr(not(any(test, feature = "cuda", feature = "cuda-host")), allow(unused))]

mod address;
pub(crate) mod attention;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod divergence_rows;
pub(crate) mod draw_rows;
mod gemm;
mod gradient;
#[cfg(any(test, feature = "cuda-host"))]
pub(crate) mod host;
mod ids;
mod launch;
pub(crate) mod linear;
#[cfg(feature = "cuda")]
mod memory;
mod recorded;
pub(crate) mod rms_norm;
pub(crate) mod rotary;
pub(crate) mod rows;
pub(crate) mod scans;
pub(crate) mod score_rows;
pub(crate) mod support_rows;
#[cfg(test)]
mod tests;
mod token_rows;
pub(crate) mod values;

use candle_core::{DType, Tensor};

#[cfg(feature = "cuda")]
pub use self::memory::DeviceMemory;
pub(crate) use self::{
    address::empty,
    gemm::product,
    gradient::Gradient,
    ids::check_ids,
    launch::{Arg, Grid, Module, launch},
    recorded::{Recorded1, Recorded2, Recorded3},
};
use crate::{Error, Result};

/// Where kernels of this module run. Has no values where the crate is built without both features.
#[derive(Clone, Debug)]
pub(crate) enum Gpu {
    /// An NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda(candle_core::CudaDevice),
    /// The CPU in its place.
    #[cfg(any(test, feature = "cuda-host"))]
    Host(&'static host::Library),
}

/// Where the kernels run that take `tensor`; `None` if those are the CPU's.
pub(crate) fn of(tensor: &Tensor) -> Option<Gpu> {
    match tensor.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(device) => Some(Gpu::Cuda(device.clone())),
        #[cfg(any(test, feature = "cuda-host"))]
        candle_core::Device::Cpu => host::current().map(Gpu::Host),
        _ => None,
    }
}

/// What the names of kernels over this dtype end in.
pub(crate) fn suffix(op: &'static str, what: &'static str, dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32"),
        DType::BF16 => Ok("bf16"),
        DType::F16 => Ok("f16"),
        #[cfg(any(test, feature = "cuda-host"))]
        DType::F64 => Ok("f64"),
        got => Err(Error::DType { op, what, got, remedy: "convert it to f32, bf16 or f16" }),
    }
}

/// What kernels over `dtype` compute in.
pub(crate) fn accumulator(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
