use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, backend::BackendStorage};

use super::{Products, matrix, matrix_dims, no_kernel};
use crate::{
    EncodedMatrix, Error, Result,
    cpu::gemm::{product_encoded, product_encoded_columns},
    form::Form,
};

/// A product with a matrix as its file has it.
struct ByEncoded {
    form: Form,
    products: Products,
    weight: EncodedMatrix,
}

/// `a w^T`, or `a w`.
pub(super) fn apply(
    form: Form,
    products: Products,
    (what, a): (&'static str, &Tensor),
    weight: &EncodedMatrix,
) -> Result<Tensor> {
    let op = form.name();
    let (_, depth) = matrix_dims(op, what, a)?;
    check(op, (what, a))?;
    let &[n, columns] = weight.dims();
    let expected = if matches!(form, Form::RowsByRows) { columns } else { n };
    if depth != expected {
        let expected = format!("[T, {expected}]");
        return Err(Error::Shape { op, what, expected, got: a.dims().to_vec() });
    }
    Ok(a.apply_op1(ByEncoded { form, products, weight: weight.clone() })?)
}

/// Refuses a tensor that is not multiplied with matrices as files have them.
pub(crate) fn check(op: &'static str, (what, tensor): (&'static str, &Tensor)) -> Result<()> {
    if !tensor.device().is_cpu() {
        return Err(Error::Device { op, device: format!("{:?}", tensor.device()) });
    }
    if tensor.dtype() != DType::F32 {
        let remedy = "an encoded weight meets f32: convert it to f32";
        return Err(Error::DType { op, what, got: tensor.dtype(), remedy });
    }
    Ok(())
}

impl CustomOp1 for ByEncoded {
    fn name(&self) -> &'static str {
        self.form.name()
    }

    fn cpu_fwd(&self, a: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let CpuStorage::F32(values) = a else {
            return Err(no_kernel(self.name(), a.dtype()).into());
        };
        let (a, products, &[n, columns]) =
            (matrix(values, layout)?, self.products, self.weight.dims());
        let (values, width) = match self.form {
            Form::RowsByRows => (product_encoded(products, a, &self.weight), n),
            _ => (product_encoded_columns(products, a, &self.weight), columns),
        };
        Ok((CpuStorage::F32(values), Shape::from((a.rows(), width))))
    }
}
