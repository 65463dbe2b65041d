//! Products of linear layers, forward and backward.

mod encoded;
mod operation;
mod packed;
mod products;
mod rounded;

use candle_core::{DType, Layout, Tensor};

use self::operation::AddProduct;
pub(crate) use self::{encoded::check as check_encoded, rounded::rounded};
pub use self::{
    packed::{PackedWeight, linear_packed},
    products::Products,
};
use crate::{Error, Result, cpu::gemm::Matrix, form::Form};

/// `x W^T`: `x` is `[T, K]`, `weight` is `[N, K]`, the result `[T, N]`.
///
/// On the CPU, for f32, f64, bf16 and f16, with any strides: each value depends bit for bit on its row
/// of `x` and its row of `weight` alone, not on the other rows or the number of threads. Products of
/// bf16 and f16 are summed in f32, as those of the widened operands, and rounded once.
/// Elsewhere this is candle's product. Gradients flow to both.
///
/// # Errors
///
/// [`Error::Shape`] if either is no matrix or the inner sizes differ, [`Error::DType`] if the
/// dtypes do.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Products::Full.linear(x, weight)
}

/// Gradient of [`linear`] with respect to `x`: `dy` is `[T, N]`, `weight` is `[N, K]`, the
/// result `dy W` is `[T, K]`.
///
/// A row of the result depends on that row of `dy` alone, as in [`linear`].
///
/// # Errors
///
/// Those of [`linear`].
pub fn linear_grad_input(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Products::Full.grad_input(dy, weight)
}

/// Gradient of [`linear`] with respect to `weight`: `dy` is `[T, N]`, `x` is `[T, K]`, the
/// result `dy^T x` is `[N, K]`.
///
/// The sum over tokens has one order, whatever the number of threads.
///
/// # Errors
///
/// Those of [`linear`].
pub fn linear_grad_weight(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    Products::Full.grad_weight(dy, x)
}

/// Adds [`linear_grad_weight`] of `dy` and `x` to `acc`, `[N, K]`, in place.
///
/// No graph records this: `acc` must not be a tensor that a backward pass still reads.
///
/// # Errors
///
/// Those of [`linear`]; [`Error::Shape`] or [`Error::DType`] if `acc` is not as the gradient;
/// [`Error::Candle`] if `acc` shares its memory with an operand.
pub fn linear_grad_weight_acc(dy: &Tensor, x: &Tensor, acc: &Tensor) -> Result<()> {
    Products::Full.grad_weight_acc(dy, x, acc)
}

/// Adds [`linear`] of `x`, `[T, K]`, and `weight`, `[N, K]`, to columns `start..start + N` of
/// `acc`, in place: the product of a low-rank adapter lands in the output of its matrix.
///
/// Each value depends bit for bit on its rows alone, as in [`linear`]. No graph records this:
/// `acc` must not be a tensor that a backward pass still reads.
///
/// # Errors
///
/// Those of [`linear`]; [`Error::Shape`] or [`Error::DType`] if the product does not fit into
/// `acc`; [`Error::Candle`] if `acc` shares its memory with an operand.
pub fn linear_acc(x: &Tensor, weight: &Tensor, acc: &Tensor, start: usize) -> Result<()> {
    const OP: &str = "linear_acc";
    let (rows, columns) = Form::RowsByRows.check(Products::Full, ("x", x), ("weight", weight))?;
    same_dtype(OP, "acc", acc.dtype(), x.dtype())?;
    let (held, width) = matrix_dims(OP, "acc", acc)?;
    if held != rows || start + columns > width {
        let expected = format!("[{rows}, at least {}]", start + columns);
        return Err(Error::Shape { op: OP, what: "acc", expected, got: acc.dims().to_vec() });
    }
    let place = acc.narrow(1, start, columns)?;
    if has_kernel(acc) && acc.stride()[1] == 1 {
        return Ok(place.inplace_op3(&x.t()?, &weight.t()?, &AddProduct(Products::Full))?);
    }
    let sum = (place + linear(x, weight)?)?;
    Ok(acc.slice_set(&sum, 1, start)?)
}

/// Whether the products of this tensor are computed here rather than by candle.
fn has_kernel(tensor: &Tensor) -> bool {
    let computed = [DType::F32, DType::F64, DType::BF16, DType::F16];
    tensor.device().is_cpu() && computed.contains(&tensor.dtype())
}

fn matrix_dims(op: &'static str, what: &'static str, tensor: &Tensor) -> Result<(usize, usize)> {
    match *tensor.dims() {
        [rows, cols] => Ok((rows, cols)),
        ref got => {
            let expected = "a matrix; flatten the dimensions before the last".to_string();
            Err(Error::Shape { op, what, expected, got: got.to_vec() })
        }
    }
}

fn same_dtype(op: &'static str, what: &'static str, got: DType, other: DType) -> Result<()> {
    if got == other {
        return Ok(());
    }
    Err(Error::DType { op, what, got, remedy: "give both operands one dtype" })
}

fn no_kernel(op: &'static str, got: DType) -> Error {
    Error::DType { op, what: "operand", got, remedy: "convert it to f32" }
}

/// The matrix that a layout of two dimensions describes.
fn matrix<'a, T>(values: &'a [T], layout: &Layout) -> Result<Matrix<'a, T>> {
    let (rows, cols) = layout.shape().dims2()?;
    let (row_stride, col_stride) = (layout.stride()[0], layout.stride()[1]);
    let values = values.get(layout.start_offset()..).unwrap_or(&[]);
    Ok(Matrix::new(values, rows, cols, row_stride, col_stride))
}
