//! Products of f32 tensors on a GPU whose operands are rounded to bf16: its matrix units take those, and sum
//! in f32.

use candle_core::{DType, Tensor};

use super::Products;
use crate::{
    Result,
    form::Form,
    gpu::{self, Gpu, Recorded2},
};

/// The values rounded to bf16, outside any graph.
pub(crate) fn rounded(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.detach().contiguous()?.to_dtype(DType::BF16)?)
}

/// The product, of operands in bf16, in f32: of this size.
pub(super) fn multiply(
    gpu: &Gpu,
    form: Form,
    operands: (&Tensor, &Tensor),
    size: (usize, usize),
) -> Result<Tensor> {
    let out = gpu::empty(size, DType::F32, operands.0.device())?;
    gpu::product(gpu, form.name(), form, operands, &out, false)?;
    Ok(out)
}

/// The product of f32 operands, as an operation of a graph.
pub(super) fn apply(
    gpu: &Gpu,
    form: Form,
    (a, b): (&Tensor, &Tensor),
    size: (usize, usize),
) -> Result<Tensor> {
    let value = multiply(gpu, form, (&rounded(a)?, &rounded(b)?), size)?;
    let backward = move |a: &Tensor, b: &Tensor, _: &Tensor, upstream: &Tensor| {
        form.gradients(Products::Bf16, a, b, upstream)
    };
    Ok(a.apply_op2(b, Recorded2 { name: form.name(), value, backward })?)
}
