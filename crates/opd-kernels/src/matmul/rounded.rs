//! Products of f32 tensors on a GPU whose operands are rounded to bf16: its matrix units take those, and sum
//! in f32.

use candle_core::{DType, Tensor};

use super::{Products, form::Form};
use crate::{
    Result,
    gpu::{self, Gpu, Recorded2},
};

/// The values rounded to bf16, outside any graph.
pub(super) fn rounded(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.detach().contiguous()?.to_dtype(DType::BF16)?)
}

/// The product, of operands in bf16, in f32.
pub(super) fn multiply(gpu: &Gpu, form: Form, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a_dims, b_dims) = (a.dims2()?, b.dims2()?);
    let dims = match form {
        Form::RowsByRows => (a_dims.0, b_dims.0),
        Form::RowsByColumns => (a_dims.0, b_dims.1),
        Form::ColumnsByColumns => (a_dims.1, b_dims.1),
    };
    let out = gpu::empty(dims, DType::F32, a.device())?;
    gpu::product(gpu, form.name(), form.into(), (a, b), &out, false)?;
    Ok(out)
}

/// The product of f32 operands, as an operation of a graph.
pub(super) fn apply(gpu: &Gpu, form: Form, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let value = multiply(gpu, form, &rounded(a)?, &rounded(b)?)?;
    let backward = move |a: &Tensor, b: &Tensor, _: &Tensor, upstream: &Tensor| {
        form.gradients(Products::Bf16, a, b, upstream)
    };
    Ok(a.apply_op2(b, Recorded2 { name: form.name(), value, backward })?)
}
