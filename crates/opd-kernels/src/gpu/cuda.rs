use candle_core::{
    CudaDevice, CudaStorage, DType,
    backend::BackendStorage,
    cuda_backend::{
        CudaStorageSlice, WrapErr,
        cudarc::{
            cublas::{result::gemm_ex, sys},
            driver::{
                CudaSlice, DevicePtr, LaunchConfig, PushKernelArg,
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            },
        },
    },
};

use super::{Grid, Module, address::unknown, gemm::Call};
use crate::{Error, Result};

/// Bytes of shared memory that a block gets without asking.
const SHARED: usize = 48 << 10;

/// Address of a storage's first value.
///
/// candle uses one stream per device, so the order of launches is the order of reads and writes.
pub(super) fn address(op: &'static str, storage: &CudaStorage) -> Result<u64> {
    fn start<T>(values: &CudaSlice<T>) -> u64 {
        values.device_ptr(values.stream()).0
    }
    match &storage.slice {
        CudaStorageSlice::F32(values) => Ok(start(values)),
        CudaStorageSlice::BF16(values) => Ok(start(values)),
        CudaStorageSlice::F16(values) => Ok(start(values)),
        CudaStorageSlice::F64(values) => Ok(start(values)),
        CudaStorageSlice::U32(values) => Ok(start(values)),
        _ => Err(unknown(op, storage.dtype())),
    }
}

/// Runs a kernel on candle's stream.
pub(super) fn launch(
    device: &CudaDevice,
    module: &'static Module,
    kernel: &str,
    grid: Grid,
    words: &[u64],
) -> Result<()> {
    let function = device.get_or_load_custom_func(kernel, module.name, module.ptx)?;
    let size = |n: usize| {
        u32::try_from(n).map_err(|_| Error::Setting {
            op: "launch",
            what: "number of blocks",
            expected: "below 2^32",
            got: n as f64,
        })
    };
    let config = LaunchConfig {
        grid_dim: (size(grid.blocks.0)?, size(grid.blocks.1)?, 1),
        block_dim: (size(grid.threads)?, 1, 1),
        shared_mem_bytes: size(grid.shared)?,
    };
    if grid.shared > SHARED {
        let bytes = grid.shared as i32;
        function.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes).w()?;
    }
    let mut builder = function.builder();
    for word in words {
        builder.arg(word);
    }
    // SAFETY: every parameter of every kernel has 8 bytes, and `words` are those that the caller
    // lists in the kernel's order: addresses of tensors that live on this device and scalars. The
    // same lists run in the tests on the host.
    unsafe { builder.launch(config) }.w()?;
    Ok(())
}

/// A product by cuBLAS on candle's stream, with sums in f32.
pub(super) fn gemm(
    op: &'static str,
    device: &CudaDevice,
    call: Call,
    (from_dtype, to_dtype): (DType, DType),
    ([first, second], to): ([u64; 2], u64),
    add: bool,
) -> Result<()> {
    use sys::{
        cublasComputeType_t::CUBLAS_COMPUTE_32F,
        cublasGemmAlgo_t::CUBLAS_GEMM_DFALT,
        cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T},
        cudaDataType_t::{CUDA_R_16BF, CUDA_R_16F, CUDA_R_32F},
    };
    let number = |dtype| match dtype {
        DType::F32 => Ok(CUDA_R_32F),
        DType::BF16 => Ok(CUDA_R_16BF),
        DType::F16 => Ok(CUDA_R_16F),
        got => Err(unknown(op, got)),
    };
    let (from_type, to_type) = (number(from_dtype)?, number(to_dtype)?);
    let int = |n: usize| {
        i32::try_from(n).map_err(|_| Error::Setting {
            op,
            what: "size of a product",
            expected: "below 2^31",
            got: n as f64,
        })
    };
    let [m, n, k] = [int(call.sizes[0])?, int(call.sizes[1])?, int(call.sizes[2])?];
    let strides = [int(call.strides[0])?, int(call.strides[1])?, int(call.strides[2])?];
    let turned = call.turned.map(|turned| if turned { CUBLAS_OP_T } else { CUBLAS_OP_N });
    let (alpha, beta) = (1f32, if add { 1f32 } else { 0f32 });
    let blas = device.cublas_handle();
    let pointer = |address: u64| address as *mut std::ffi::c_void;
    // SAFETY: the addresses are those of contiguous matrices of these sizes and dtypes on this device,
    // which live until the stream has passed the product; alpha and beta are read at the call.
    unsafe {
        gemm_ex(
            *blas.handle(),
            turned[0],
            turned[1],
            m,
            n,
            k,
            std::ptr::from_ref(&alpha).cast(),
            pointer(first),
            from_type,
            strides[0],
            pointer(second),
            from_type,
            strides[1],
            std::ptr::from_ref(&beta).cast(),
            pointer(to),
            to_type,
            strides[2],
            CUBLAS_COMPUTE_32F,
            CUBLAS_GEMM_DFALT,
        )
    }
    .w()?;
    Ok(())
}
