use std::cell::Cell;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, Tensor};

use crate::{Error, Result};

/// An uninitialised tensor; on the host it holds NaN, so that what a kernel leaves out shows.
pub(crate) fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    match device {
        Device::Cpu if dtype.is_float() => {
            Ok(Tensor::full(f32::NAN, shape, device)?.to_dtype(dtype)?)
        }
        Device::Cpu => Ok(Tensor::zeros(shape, dtype, device)?),
        // SAFETY: it has the shape and dtype asked for, and the kernel that it is made for writes
        // every value before anything reads one.
        _ => Ok(unsafe { Tensor::empty(shape, dtype, device) }?),
    }
}

/// Address of a tensor's first value, for a kernel that reads it.
///
/// The storage must outlive the kernel: on a GPU memory is freed in the order of the stream.
pub(super) fn read(op: &'static str, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let start = match &*storage {
        Storage::Cpu(storage) => cpu_read(op, storage)?,
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => super::cuda::address(op, storage)?,
        _ => return Err(Error::Device { op, device: format!("{:?}", tensor.device()) }),
    };
    Ok(start + (layout.start_offset() * tensor.dtype().size_in_bytes()) as u64)
}

/// Address of a contiguous tensor's first value, for a kernel that writes it.
pub(super) fn write(op: &'static str, tensor: &Tensor) -> Result<u64> {
    let grab = Grab { op, address: Cell::new(0) };
    tensor.inplace_op1(&grab)?;
    Ok(grab.address.get())
}

/// Learns the address of a storage that may be changed.
struct Grab {
    op: &'static str,
    address: Cell<u64>,
}

impl Grab {
    fn set(&self, start: u64, dtype: DType, layout: &Layout) -> candle_core::Result<()> {
        let Some((first, _)) = layout.contiguous_offsets() else {
            return Err(candle_core::Error::RequiresContiguous { op: self.op });
        };
        self.address.set(start + (first * dtype.size_in_bytes()) as u64);
        Ok(())
    }
}

impl InplaceOp1 for Grab {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        use candle_core::backend::BackendStorage;
        let dtype = storage.dtype();
        let start = match storage {
            CpuStorage::F32(values) => values.as_mut_ptr().expose_provenance(),
            CpuStorage::F64(values) => values.as_mut_ptr().expose_provenance(),
            CpuStorage::BF16(values) => values.as_mut_ptr().expose_provenance(),
            CpuStorage::F16(values) => values.as_mut_ptr().expose_provenance(),
            CpuStorage::U32(values) => values.as_mut_ptr().expose_provenance(),
            _ => return Err(unknown(self.op, dtype).into()),
        };
        self.set(start as u64, dtype, layout)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        storage: &mut candle_core::CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<()> {
        use candle_core::backend::BackendStorage;
        let start = super::cuda::address(self.op, storage)?;
        self.set(start, storage.dtype(), layout)
    }
}

fn cpu_read(op: &'static str, storage: &CpuStorage) -> Result<u64> {
    use candle_core::backend::BackendStorage;
    let start = match storage {
        CpuStorage::F32(values) => values.as_ptr().expose_provenance(),
        CpuStorage::F64(values) => values.as_ptr().expose_provenance(),
        CpuStorage::BF16(values) => values.as_ptr().expose_provenance(),
        CpuStorage::F16(values) => values.as_ptr().expose_provenance(),
        CpuStorage::U32(values) => values.as_ptr().expose_provenance(),
        storage => return Err(unknown(op, storage.dtype())),
    };
    Ok(start as u64)
}

pub(super) fn unknown(op: &'static str, got: DType) -> Error {
    Error::DType { op, what: "tensor", got, remedy: "convert it to f32, bf16 or f16" }
}
