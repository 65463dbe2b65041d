use candle_core::{Device, Result, Tensor};
use opd_kernels::DeviceMemory;

/// Bytes that tensors hold.
pub(crate) fn bytes(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
}

/// Runs `work`, and tells how many bytes tensors held at most beyond what they held before.
pub(crate) fn peak<R>(device: &Device, work: impl FnOnce() -> Result<R>) -> Result<(R, usize)> {
    device.synchronize()?;
    let before = DeviceMemory::begin(device)?.used;
    let result = work()?;
    device.synchronize()?;
    Ok((result, (DeviceMemory::of(device)?.most - before) as usize))
}
