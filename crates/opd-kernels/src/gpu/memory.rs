use candle_core::{
    Device,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{
            CudaContext, DriverError,
            sys::{
                CUmemPool_attribute::{
                    self, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
                    CU_MEMPOOL_ATTR_USED_MEM_HIGH,
                },
                CUmemoryPool, cuDeviceGetDefaultMemPool, cuMemPoolGetAttribute,
                cuMemPoolSetAttribute,
            },
        },
    },
};

use crate::{Error, Result};

/// Bytes of an NVIDIA GPU that tensors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Now.
    pub used: u64,
    /// At most, since the last [`DeviceMemory::begin`].
    pub most: u64,
}

impl DeviceMemory {
    /// What the driver's pool has given out, in the order of the stream: what is still to be computed has
    /// its memory already.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] on another device, [`Error::Candle`] if the driver refuses.
    pub fn of(device: &Device) -> Result<Self> {
        let pool = pool(device)?;
        let get = |attribute| get(pool, attribute).w();
        Ok(Self {
            used: get(CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
            most: get(CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        })
    }

    /// Forgets what was used at most, and tells what is used.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::of`].
    pub fn begin(device: &Device) -> Result<Self> {
        set(pool(device)?, CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0).w()?;
        Self::of(device)
    }

    /// Lets the driver's pool keep memory that tensors have freed: without it the pool gives it back whenever
    /// the program waits for the device, and has to map it again. For programs that have the GPU for
    /// themselves.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemory::of`].
    pub fn keep_freed(device: &Device) -> Result<()> {
        Ok(set(pool(device)?, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX).w()?)
    }
}

fn pool(device: &Device) -> Result<CUmemoryPool> {
    const OP: &str = "DeviceMemory";
    let Device::Cuda(cuda) = device else {
        return Err(Error::Device { op: OP, device: format!("{device:?}, which has no pool") });
    };
    let stream = cuda.cuda_stream();
    let context: &CudaContext = stream.context();
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device exists, for this is its context; `pool` is written to.
    unsafe { cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()) }.result().w()?;
    Ok(pool)
}

fn get(
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
) -> std::result::Result<u64, DriverError> {
    let mut value = 0u64;
    // SAFETY: the device's default pool lives as long as the process; the attributes named in this file are
    // numbers of 64 bits.
    unsafe { cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) }.result()?;
    Ok(value)
}

fn set(
    pool: CUmemoryPool,
    attribute: CUmemPool_attribute,
    mut value: u64,
) -> std::result::Result<(), DriverError> {
    // SAFETY: as in `get`.
    unsafe { cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast()) }.result()
}
