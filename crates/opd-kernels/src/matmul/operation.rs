use candle_core::{
    CpuStorage, CustomOp2, InplaceOp3, Layout, Shape, Tensor, backend::BackendStorage,
};

use super::{Products, has_kernel, matrix, matrix_dims, no_kernel, rounded, same_dtype};
use crate::{
    Error, Result,
    cpu::gemm::{
        Matrix, MatrixMut, Update, add_narrow, gemm, gemm_bf16, product, product_bf16,
        product_narrow,
    },
    form::Form,
    gpu,
};

/// A tensor and what an error calls it.
pub(super) type Operand<'a> = (&'static str, &'a Tensor);

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Form::RowsByRows => "linear",
            Form::RowsByColumns => "linear_grad_input",
            Form::ColumnsByColumns => "linear_grad_weight",
        }
    }

    fn operands<'a, T>(self, a: Matrix<'a, T>, b: Matrix<'a, T>) -> (Matrix<'a, T>, Matrix<'a, T>) {
        match self {
            Form::RowsByRows => (a, b.t()),
            Form::RowsByColumns => (a, b),
            Form::ColumnsByColumns => (a.t(), b),
        }
    }

    /// Size of the result.
    pub(super) fn check(
        self,
        products: Products,
        a: Operand<'_>,
        b: Operand<'_>,
    ) -> Result<(usize, usize)> {
        let op = self.name();
        products.check(op, a)?;
        let (a_rows, a_cols) = matrix_dims(op, a.0, a.1)?;
        let (b_rows, b_cols) = matrix_dims(op, b.0, b.1)?;
        same_dtype(op, b.0, b.1.dtype(), a.1.dtype())?;
        let (inner, size, expected) = match self {
            Form::RowsByRows => (b_cols == a_cols, (a_rows, b_rows), format!("[N, {a_cols}]")),
            Form::RowsByColumns => (b_rows == a_cols, (a_rows, b_cols), format!("[{a_cols}, K]")),
            Form::ColumnsByColumns => {
                (b_rows == a_rows, (a_cols, b_cols), format!("[{a_rows}, K]"))
            }
        };
        if !inner {
            return Err(Error::Shape { op, what: b.0, expected, got: b.1.dims().to_vec() });
        }
        Ok(size)
    }

    pub(super) fn apply(
        self,
        products: Products,
        a: Operand<'_>,
        b: Operand<'_>,
    ) -> Result<Tensor> {
        let size = self.check(products, a, b)?;
        let (a, b) = (a.1, b.1);
        if let (Products::Bf16, Some(gpu)) = (products, gpu::of(a)) {
            return rounded::apply(&gpu, self, (a, b), size);
        }
        if has_kernel(a) && b.device().is_cpu() {
            return Ok(a.apply_op2(b, FormOf { form: self, products })?);
        }
        Ok(match self {
            Form::RowsByRows => a.matmul(&b.t()?)?,
            Form::RowsByColumns => a.matmul(b)?,
            Form::ColumnsByColumns => a.t()?.matmul(b)?,
        })
    }

    /// Gradients of those operands that are part of the graph.
    pub(super) fn gradients(
        self,
        products: Products,
        a: &Tensor,
        b: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let for_a = || match self {
            Form::RowsByRows => products.grad_input(grad, b),
            Form::RowsByColumns => products.linear(grad, b),
            Form::ColumnsByColumns => products.linear(b, grad),
        };
        let for_b = || match self {
            Form::RowsByRows => products.grad_weight(grad, a),
            Form::RowsByColumns => products.grad_weight(a, grad),
            Form::ColumnsByColumns => products.grad_input(a, grad),
        };
        Ok((a.track_op().then(for_a).transpose()?, b.track_op().then(for_b).transpose()?))
    }
}

/// A product as an operation of a graph.
struct FormOf {
    form: Form,
    products: Products,
}

impl CustomOp2 for FormOf {
    fn name(&self) -> &'static str {
        self.form.name()
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        match (a, b) {
            (CpuStorage::F32(a), CpuStorage::F32(b)) => {
                let (a, b) = self.form.operands(matrix(a, a_layout)?, matrix(b, b_layout)?);
                let values = match self.products {
                    Products::Full => product(a, b),
                    Products::Bf16 => product_bf16(a, b),
                };
                Ok((CpuStorage::F32(values), Shape::from((a.rows(), b.cols()))))
            }
            (CpuStorage::F64(a), CpuStorage::F64(b)) => {
                let (a, b) = self.form.operands(matrix(a, a_layout)?, matrix(b, b_layout)?);
                Ok((CpuStorage::F64(product(a, b)), Shape::from((a.rows(), b.cols()))))
            }
            (CpuStorage::BF16(a), CpuStorage::BF16(b)) => {
                let (a, b) = self.form.operands(matrix(a, a_layout)?, matrix(b, b_layout)?);
                Ok((CpuStorage::BF16(product_narrow(a, b)), Shape::from((a.rows(), b.cols()))))
            }
            (CpuStorage::F16(a), CpuStorage::F16(b)) => {
                let (a, b) = self.form.operands(matrix(a, a_layout)?, matrix(b, b_layout)?);
                Ok((CpuStorage::F16(product_narrow(a, b)), Shape::from((a.rows(), b.cols()))))
            }
            _ => Err(no_kernel(self.name(), b.dtype()).into()),
        }
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(self.form.gradients(self.products, a, b, grad)?)
    }
}

/// `acc += a^T b`, in place.
pub(super) struct AddProduct(pub(super) Products);

impl InplaceOp3 for AddProduct {
    fn name(&self) -> &'static str {
        "linear_grad_weight_acc"
    }

    fn cpu_fwd(
        &self,
        acc: &mut CpuStorage,
        acc_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> candle_core::Result<()> {
        match (acc, dy, x) {
            (CpuStorage::F32(acc), CpuStorage::F32(dy), CpuStorage::F32(x)) => {
                let (dy, x) = (matrix(dy, dy_layout)?, matrix(x, x_layout)?);
                let acc = written(acc, acc_layout, dy, x);
                match self.0 {
                    Products::Full => gemm(acc, dy.t(), x, Update::Add),
                    Products::Bf16 => gemm_bf16(acc, dy.t(), x, Update::Add),
                }
            }
            (CpuStorage::F64(acc), CpuStorage::F64(dy), CpuStorage::F64(x)) => {
                let (dy, x) = (matrix(dy, dy_layout)?, matrix(x, x_layout)?);
                gemm(written(acc, acc_layout, dy, x), dy.t(), x, Update::Add);
            }
            (CpuStorage::BF16(acc), CpuStorage::BF16(dy), CpuStorage::BF16(x)) => {
                let (dy, x) = (matrix(dy, dy_layout)?, matrix(x, x_layout)?);
                add_narrow(written_rows(acc, acc_layout), dy.t(), x);
            }
            (CpuStorage::F16(acc), CpuStorage::F16(dy), CpuStorage::F16(x)) => {
                let (dy, x) = (matrix(dy, dy_layout)?, matrix(x, x_layout)?);
                add_narrow(written_rows(acc, acc_layout), dy.t(), x);
            }
            (acc, ..) => return Err(no_kernel(self.name(), acc.dtype()).into()),
        }
        Ok(())
    }
}

/// Where the product of `dy^T` and `x` goes.
fn written<'a, T>(
    acc: &'a mut [T],
    layout: &Layout,
    dy: Matrix<'_, T>,
    x: Matrix<'_, T>,
) -> MatrixMut<'a, T> {
    let (acc, row_stride) = written_rows(acc, layout);
    MatrixMut::new(acc, dy.cols(), x.cols(), row_stride)
}

/// The values from the first, and the distance of rows.
fn written_rows<'a, T>(acc: &'a mut [T], layout: &Layout) -> (&'a mut [T], usize) {
    (&mut acc[layout.start_offset()..], layout.stride()[0])
}
