use candle_core::{DType, Device, Result, Tensor};

/// Repeatable numbers in `-scale..scale`, rounded to `dtype`, on the CPU.
pub(crate) fn tensor(dims: &[usize], seed: u64, scale: f32, dtype: DType) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let values: Vec<f32> =
        (0..dims.iter().product()).map(|_| scale * (2.0 * next() - 1.0)).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(dtype)
}

/// Ids below `vocab`.
pub(crate) fn ids(n: usize, vocab: usize) -> Result<Tensor> {
    let ids: Vec<u32> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
    Tensor::from_vec(ids, n, &Device::Cpu)
}
