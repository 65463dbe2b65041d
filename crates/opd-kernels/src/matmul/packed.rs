use std::{fmt, sync::Arc};

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor, backend::BackendStorage};

use super::{
    Products, has_kernel, matrix, matrix_dims, no_kernel,
    rounded::{multiply, rounded},
    same_dtype,
};
use crate::{
    EncodedMatrix, Error, Result,
    cpu::gemm::{Packed, PackedPairs, product_bf16_packed, product_packed},
    encoded::PackedValues,
    form::Form,
    gpu,
};

/// A frozen weight in the order in which [`linear_packed`] reads it.
///
/// Worth its memory (as much again as the weight, half of that for [`Products::Bf16`]) where a
/// weight meets few rows many times, as in decoding. Cloning shares it.
#[derive(Clone)]
pub struct PackedWeight(Storage);

#[derive(Clone)]
enum Storage {
    F32(Arc<Packed<f32>>),
    F64(Arc<Packed<f64>>),
    Bf16(Arc<PackedPairs>),
    /// In bf16, on a GPU.
    Rounded(Tensor),
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
        Products::Full.pack(weight)
    }

    /// Packs a matrix that has these products.
    pub(super) fn of(products: Products, weight: &Tensor) -> Result<Self> {
        if let (Products::Bf16, Some(_)) = (products, gpu::of(weight)) {
            return Ok(Self(Storage::Rounded(rounded(weight)?)));
        }
        if !has_kernel(weight) {
            return Ok(Self(Storage::Plain(weight.detach().copy()?)));
        }
        let (storage, layout) = weight.storage_and_layout();
        Ok(Self(match &*storage {
            candle_core::Storage::Cpu(CpuStorage::F32(values)) => {
                let weight = matrix(values, layout)?.t();
                match products {
                    Products::Full => Storage::F32(Arc::new(Packed::new(weight))),
                    Products::Bf16 => Storage::Bf16(Arc::new(PackedPairs::new(weight))),
                }
            }
            candle_core::Storage::Cpu(CpuStorage::F64(values)) => {
                Storage::F64(Arc::new(Packed::new(matrix(values, layout)?.t())))
            }
            _ => Storage::Plain(weight.detach().copy()?),
        }))
    }

    /// Packs the values of a matrix that has these products.
    pub(super) fn encoded(products: Products, weight: &EncodedMatrix) -> Self {
        Self(match (weight.as_read(products), products) {
            (Some(PackedValues::F32(packed)), _) => Storage::F32(packed),
            (Some(PackedValues::Bf16(packed)), _) => Storage::Bf16(packed),
            (None, Products::Full) => Storage::F32(Arc::new(Packed::encoded(weight))),
            (None, Products::Bf16) => Storage::Bf16(Arc::new(PackedPairs::encoded(weight))),
        })
    }

    /// `[N, K]`.
    fn dims(&self) -> (usize, usize) {
        match &self.0 {
            Storage::F32(packed) => (packed.cols(), packed.rows()),
            Storage::F64(packed) => (packed.cols(), packed.rows()),
            Storage::Bf16(packed) => (packed.cols(), packed.rows()),
            Storage::Rounded(weight) | Storage::Plain(weight) => {
                (weight.dims()[0], weight.dims()[1])
            }
        }
    }

    /// Of what it is multiplied with.
    fn dtype(&self) -> DType {
        match &self.0 {
            Storage::F32(_) | Storage::Bf16(_) | Storage::Rounded(_) => DType::F32,
            Storage::F64(_) => DType::F64,
            Storage::Plain(weight) => weight.dtype(),
        }
    }
}

/// [`Products::linear`] with a packed weight; the same bits, but no backward pass.
///
/// # Errors
///
/// Those of [`Products::linear`].
pub fn linear_packed(x: &Tensor, weight: &PackedWeight) -> Result<Tensor> {
    let op = weight.name();
    let (rows, depth) = matrix_dims(op, "x", x)?;
    same_dtype(op, "x", x.dtype(), weight.dtype())?;
    let (columns, expected) = weight.dims();
    if expected != depth {
        let expected = format!("[T, {expected}]");
        return Err(Error::Shape { op, what: "x", expected, got: x.dims().to_vec() });
    }
    match &weight.0 {
        Storage::Plain(plain) => Products::Full.linear(x, plain),
        Storage::Rounded(weight) => {
            let device = || Error::Device { op, device: format!("{:?}", x.device()) };
            let gpu = gpu::of(x).ok_or_else(device)?;
            multiply(&gpu, Form::RowsByRows, (&rounded(x)?, weight), (rows, columns))
        }
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
            (CpuStorage::F32(x), Storage::Bf16(weight)) => {
                Ok((CpuStorage::F32(product_bf16_packed(matrix(x, layout)?, weight)), shape))
            }
            (CpuStorage::F64(x), Storage::F64(weight)) => {
                Ok((CpuStorage::F64(product_packed(matrix(x, layout)?, weight)), shape))
            }
            _ => Err(no_kernel(self.name(), x.dtype()).into()),
        }
    }
}
