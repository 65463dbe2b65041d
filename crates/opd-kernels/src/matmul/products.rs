use candle_core::{DType, Tensor};
use half::bf16;

use super::{
    encoded, has_kernel, matrix_dims,
    operation::{AddProduct, Operand},
    packed::PackedWeight,
    rounded::rounded,
    same_dtype,
};
use crate::{
    Error, Result, WeightRef,
    cpu::{self, gemm},
    form::Form,
    gpu,
};

/// How the products of linear layers read their operands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// As they are.
    #[default]
    Full,
    /// f32 tensors, of which every product takes values rounded to bf16 (the nearest, ties to even).
    /// Sums are f32, and so are results. Twice the multiply-adds per instruction on a CPU that has
    /// AVX-512 BF16; on others the same sums in a longer time, up to their rounding and to subnormal
    /// numbers, which AVX-512 BF16 takes as 0. On an NVIDIA GPU these are products of bf16 matrices,
    /// of its tensor cores: operands are copied to bf16 for each.
    Bf16,
}

impl Products {
    /// `x W^T`: `x` is `[T, K]`, `weight` is `[N, K]`, the result `[T, N]`.
    ///
    /// On the CPU, for f32, f64, bf16 and f16, with any strides: each value depends bit for bit on its row
    /// of `x` and its row of `weight` alone, not on the other rows or the number of threads.
    /// Elsewhere this is candle's product. Gradients flow to both.
    ///
    /// A weight may be an [`EncodedMatrix`](crate::EncodedMatrix): the result has the bits of that
    /// with its values, and no gradient flows.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if either is no matrix or the inner sizes differ, [`Error::DType`] if the
    /// dtypes do, or [`Products::Bf16`] or an encoded weight meets other than f32,
    /// [`Error::Device`] if [`Products::Bf16`] meets a tensor on neither the CPU nor an NVIDIA GPU, or an
    /// encoded weight one that is not on the CPU.
    pub fn linear<'a>(self, x: &Tensor, weight: impl Into<WeightRef<'a>>) -> Result<Tensor> {
        self.by_weight(Form::RowsByRows, ("x", x), weight.into())
    }

    /// Gradient of [`Products::linear`] with respect to `x`: `dy` is `[T, N]`, `weight` is
    /// `[N, K]`, the result `dy W` is `[T, K]`.
    ///
    /// A row of the result depends on that row of `dy` alone, as in [`Products::linear`].
    ///
    /// # Errors
    ///
    /// Those of [`Products::linear`].
    pub fn grad_input<'a>(self, dy: &Tensor, weight: impl Into<WeightRef<'a>>) -> Result<Tensor> {
        self.by_weight(Form::RowsByColumns, ("dy", dy), weight.into())
    }

    fn by_weight(self, form: Form, a: Operand<'_>, weight: WeightRef<'_>) -> Result<Tensor> {
        match weight {
            WeightRef::Tensor(weight) => form.apply(self, a, ("weight", weight)),
            WeightRef::Encoded(weight) => encoded::apply(form, self, a, weight),
        }
    }

    /// Gradient of [`Products::linear`] with respect to `weight`: `dy` is `[T, N]`, `x` is
    /// `[T, K]`, the result `dy^T x` is `[N, K]`.
    ///
    /// The sum over tokens has one order, whatever the number of threads.
    ///
    /// # Errors
    ///
    /// Those of [`Products::linear`].
    pub fn grad_weight(self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        Form::ColumnsByColumns.apply(self, ("dy", dy), ("x", x))
    }

    /// Adds [`Products::grad_weight`] of `dy` and `x` to `acc`, `[N, K]`, in place.
    ///
    /// No graph records this: `acc` must not be a tensor that a backward pass still reads.
    ///
    /// # Errors
    ///
    /// Those of [`Products::linear`]; [`Error::Shape`] or [`Error::DType`] if `acc` is not as the
    /// gradient; [`Error::Candle`] if `acc` shares its memory with an operand.
    pub fn grad_weight_acc(self, dy: &Tensor, x: &Tensor, acc: &Tensor) -> Result<()> {
        let form = Form::ColumnsByColumns;
        let (rows, cols) = form.check(self, ("dy", dy), ("x", x))?;
        crate::shape::expect(form.name(), "acc", acc, &[rows, cols], "[N, K]")?;
        same_dtype(form.name(), "acc", acc.dtype(), dy.dtype())?;
        if let (Some(gpu), true) = (gpu::of(acc), acc.is_contiguous()) {
            let (dy, x) = match self {
                Self::Full => (dy.contiguous()?, x.contiguous()?),
                Self::Bf16 => (rounded(dy)?, rounded(x)?),
            };
            return gpu::product(&gpu, form.name(), Form::ColumnsByColumns, (&dy, &x), acc, true);
        }
        if has_kernel(acc) && acc.stride()[1] == 1 {
            return Ok(acc.inplace_op3(dy, x, &AddProduct(self))?);
        }
        let sum = (acc + self.grad_weight(dy, x)?)?;
        Ok(acc.slice_set(&sum, 0, 0)?)
    }

    /// `weight`, `[N, K]`, in the order in which products with few rows read it, as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `weight` is no matrix; [`Error::DType`] and [`Error::Device`] as
    /// [`Products::linear`].
    pub fn pack<'a>(self, weight: impl Into<WeightRef<'a>>) -> Result<PackedWeight> {
        match weight.into() {
            WeightRef::Tensor(weight) => {
                matrix_dims("PackedWeight::new", "weight", weight)?;
                self.check("PackedWeight::new", ("weight", weight))?;
                PackedWeight::of(self, weight)
            }
            WeightRef::Encoded(weight) => Ok(PackedWeight::encoded(self, weight)),
        }
    }

    /// `tensor`, `[T, N]`, as a forward keeps it for its backward: itself, or, on the CPU, rounded to
    /// bf16 in a tensor of that dtype.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if it is no matrix; [`Error::DType`] and [`Error::Device`] as
    /// [`Products::linear`].
    pub fn stored(self, tensor: Tensor) -> Result<Tensor> {
        const OP: &str = "Products::stored";
        self.check(OP, ("tensor", &tensor))?;
        match self {
            Self::Full => Ok(tensor),
            // The kernels that read it compute in the dtype that they are given.
            Self::Bf16 if gpu::of(&tensor).is_some() => Ok(tensor),
            Self::Bf16 => {
                let (rows, cols) = matrix_dims(OP, "tensor", &tensor)?;
                let tensor = tensor.contiguous()?;
                let values = cpu::view::<f32>(OP, &tensor)?;
                let mut rounded = vec![bf16::ZERO; values.len()];
                gemm::round(&values, &mut rounded);
                drop(values);
                Ok(Tensor::from_vec(rounded, (rows, cols), tensor.device())?)
            }
        }
    }

    /// Refuses a tensor that has no such products.
    pub(crate) fn check(
        self,
        op: &'static str,
        (what, tensor): (&'static str, &Tensor),
    ) -> Result<()> {
        if self == Self::Full {
            return Ok(());
        }
        if !tensor.device().is_cpu() && gpu::of(tensor).is_none() {
            return Err(Error::Device { op, device: format!("{:?}", tensor.device()) });
        }
        if tensor.dtype() != DType::F32 {
            let remedy = "products of bf16 values are of f32 tensors: convert it to f32";
            return Err(Error::DType { op, what, got: tensor.dtype(), remedy });
        }
        Ok(())
    }
}
