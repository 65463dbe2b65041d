use std::{fmt, sync::Arc};

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, InplaceOp3, Layout, Shape, Tensor,
    backend::BackendStorage,
};

use crate::{
    Error, Result,
    cpu::gemm::{Gemm, Matrix, MatrixMut, Packed, Update, gemm, product, product_packed},
    gpu::{self, Product},
};

/// `x W^T`: `x` is `[T, K]`, `weight` is `[N, K]`, the result `[T, N]`.
///
/// On the CPU, for `f32` and `f64`, with any strides: each value depends bit for bit on its row
/// of `x` and its row of `weight` alone, not on the other rows or the number of threads.
/// Elsewhere this is candle's product. Gradients flow to both.
///
/// # Errors
///
/// [`Error::Shape`] if either is no matrix or the inner sizes differ, [`Error::DType`] if the
/// dtypes do.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Form::RowsByRows.apply(("x", x), ("weight", weight))
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
    Form::RowsByColumns.apply(("dy", dy), ("weight", weight))
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
    Form::ColumnsByColumns.apply(("dy", dy), ("x", x))
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
    let form = Form::ColumnsByColumns;
    let (rows, cols) = form.check(("dy", dy), ("x", x))?;
    crate::shape::expect(form.name(), "acc", acc, &[rows, cols], "[N, K]")?;
    same_dtype(form.name(), "acc", acc.dtype(), dy.dtype())?;
    if let (Some(gpu), true) = (gpu::of(acc), acc.is_contiguous()) {
        let (dy, x) = (dy.contiguous()?, x.contiguous()?);
        return gpu::product(&gpu, form.name(), Product::ColumnsByColumns, (&dy, &x), acc, true);
    }
    if has_kernel(acc) && acc.stride()[1] == 1 {
        return Ok(acc.inplace_op3(dy, x, &AddProduct)?);
    }
    let sum = (acc + linear_grad_weight(dy, x)?)?;
    Ok(acc.slice_set(&sum, 0, 0)?)
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
    let (rows, columns) = Form::RowsByRows.check(("x", x), ("weight", weight))?;
    same_dtype(OP, "acc", acc.dtype(), x.dtype())?;
    let (held, width) = matrix_dims(OP, "acc", acc)?;
    if held != rows || start + columns > width {
        let expected = format!("[{rows}, at least {}]", start + columns);
        return Err(Error::Shape { op: OP, what: "acc", expected, got: acc.dims().to_vec() });
    }
    let place = acc.narrow(1, start, columns)?;
    if has_kernel(acc) && acc.stride()[1] == 1 {
        return Ok(place.inplace_op3(&x.t()?, &weight.t()?, &AddProduct)?);
    }
    let sum = (place + linear(x, weight)?)?;
    Ok(acc.slice_set(&sum, 1, start)?)
}

/// A frozen weight in the order in which [`linear_packed`] reads it.
///
/// Worth its memory (as much again as the weight) where a weight meets few rows many times, as
/// in decoding. Cloning shares it.
#[derive(Clone)]
pub struct PackedWeight(Storage);

#[derive(Clone)]
enum Storage {
    F32(Arc<Packed<f32>>),
    F64(Arc<Packed<f64>>),
    /// No kernel for this device or dtype.
    Plain(Tensor),
}

impl fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, cols) = self.dims();
        write!(f, "PackedWeight([{rows}, {cols}], {:?})", self.dtype())
    }
}

impl PackedWeight {
    /// Packs `weight`, `[N, K]`, as it is now; a later change of it is not seen.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `weight` is no matrix.
    pub fn new(weight: &Tensor) -> Result<Self> {
        matrix_dims("PackedWeight::new", "weight", weight)?;
        if !has_kernel(weight) {
            return Ok(Self(Storage::Plain(weight.detach().copy()?)));
        }
        let (storage, layout) = weight.storage_and_layout();
        Ok(Self(match &*storage {
            candle_core::Storage::Cpu(CpuStorage::F32(values)) => {
                Storage::F32(Arc::new(Packed::new(matrix(values, layout)?.t())))
            }
            candle_core::Storage::Cpu(CpuStorage::F64(values)) => {
                Storage::F64(Arc::new(Packed::new(matrix(values, layout)?.t())))
            }
            _ => Storage::Plain(weight.detach().copy()?),
        }))
    }

    /// `[N, K]`.
    fn dims(&self) -> (usize, usize) {
        match &self.0 {
            Storage::F32(packed) => (packed.cols(), packed.rows()),
            Storage::F64(packed) => (packed.cols(), packed.rows()),
            Storage::Plain(weight) => (weight.dims()[0], weight.dims()[1]),
        }
    }

    fn dtype(&self) -> DType {
        match &self.0 {
            Storage::F32(_) => DType::F32,
            Storage::F64(_) => DType::F64,
            Storage::Plain(weight) => weight.dtype(),
        }
    }
}

/// [`linear`] with a packed weight; the same bits, but no backward pass.
///
/// # Errors
///
/// Those of [`linear`].
pub fn linear_packed(x: &Tensor, weight: &PackedWeight) -> Result<Tensor> {
    let op = weight.name();
    let (_, depth) = matrix_dims(op, "x", x)?;
    same_dtype(op, "x", x.dtype(), weight.dtype())?;
    if weight.dims().1 != depth {
        let expected = format!("[T, {}]", weight.dims().1);
        return Err(Error::Shape { op, what: "x", expected, got: x.dims().to_vec() });
    }
    match &weight.0 {
        Storage::Plain(plain) => linear(x, plain),
        _ if !x.device().is_cpu() => Err(Error::Device { op, device: format!("{:?}", x.device()) }),
        _ => Ok(x.apply_op1(weight.clone())?),
    }
}

impl CustomOp1 for PackedWeight {
    fn name(&self) -> &'static str {
        "linear_packed"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let shape = Shape::from((layout.dims()[0], self.dims().0));
        match (x, &self.0) {
            (CpuStorage::F32(x), Storage::F32(weight)) => {
                Ok((CpuStorage::F32(product_packed(matrix(x, layout)?, weight)), shape))
            }
            (CpuStorage::F64(x), Storage::F64(weight)) => {
                Ok((CpuStorage::F64(product_packed(matrix(x, layout)?, weight)), shape))
            }
            _ => Err(no_kernel(self.name(), x.dtype()).into()),
        }
    }
}

/// The three products of a linear layer, by which index is summed over.
#[derive(Clone, Copy)]
enum Form {
    /// `a b^T`
    RowsByRows,
    /// `a b`
    RowsByColumns,
    /// `a^T b`
    ColumnsByColumns,
}

impl Form {
    fn operands<'a, T>(self, a: Matrix<'a, T>, b: Matrix<'a, T>) -> (Matrix<'a, T>, Matrix<'a, T>) {
        match self {
            Form::RowsByRows => (a, b.t()),
            Form::RowsByColumns => (a, b),
            Form::ColumnsByColumns => (a.t(), b),
        }
    }

    /// Size of the result.
    fn check(
        self,
        a: (&'static str, &Tensor),
        b: (&'static str, &Tensor),
    ) -> Result<(usize, usize)> {
        let op = self.name();
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

    fn apply(self, a: (&'static str, &Tensor), b: (&'static str, &Tensor)) -> Result<Tensor> {
        self.check(a, b)?;
        let (a, b) = (a.1, b.1);
        if has_kernel(a) && b.device().is_cpu() {
            return Ok(a.apply_op2(b, self)?);
        }
        Ok(match self {
            Form::RowsByRows => a.matmul(&b.t()?)?,
            Form::RowsByColumns => a.matmul(b)?,
            Form::ColumnsByColumns => a.t()?.matmul(b)?,
        })
    }
}

impl CustomOp2 for Form {
    fn name(&self) -> &'static str {
        match self {
            Form::RowsByRows => "linear",
            Form::RowsByColumns => "linear_grad_input",
            Form::ColumnsByColumns => "linear_grad_weight",
        }
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
                let (a, b) = self.operands(matrix(a, a_layout)?, matrix(b, b_layout)?);
                Ok((CpuStorage::F32(product(a, b)), Shape::from((a.rows(), b.cols()))))
            }
            (CpuStorage::F64(a), CpuStorage::F64(b)) => {
                let (a, b) = self.operands(matrix(a, a_layout)?, matrix(b, b_layout)?);
                Ok((CpuStorage::F64(product(a, b)), Shape::from((a.rows(), b.cols()))))
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
        let for_a = || match self {
            Form::RowsByRows => linear_grad_input(grad, b),
            Form::RowsByColumns => linear(grad, b),
            Form::ColumnsByColumns => linear(b, grad),
        };
        let for_b = || match self {
            Form::RowsByRows => linear_grad_weight(grad, a),
            Form::RowsByColumns => linear_grad_weight(a, grad),
            Form::ColumnsByColumns => linear_grad_input(a, grad),
        };
        Ok((a.track_op().then(for_a).transpose()?, b.track_op().then(for_b).transpose()?))
    }
}

struct AddProduct;

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
                add_product(acc, acc_layout, matrix(dy, dy_layout)?, matrix(x, x_layout)?);
            }
            (CpuStorage::F64(acc), CpuStorage::F64(dy), CpuStorage::F64(x)) => {
                add_product(acc, acc_layout, matrix(dy, dy_layout)?, matrix(x, x_layout)?);
            }
            (acc, ..) => return Err(no_kernel(self.name(), acc.dtype()).into()),
        }
        Ok(())
    }
}

fn add_product<T: Gemm>(acc: &mut [T], layout: &Layout, dy: Matrix<'_, T>, x: Matrix<'_, T>) {
    let acc = &mut acc[layout.start_offset()..];
    let acc = MatrixMut::new(acc, dy.cols(), x.cols(), layout.stride()[0]);
    gemm(acc, dy.t(), x, Update::Add);
}

/// Whether the products of this tensor are computed here rather than by candle.
fn has_kernel(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && matches!(tensor.dtype(), DType::F32 | DType::F64)
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
