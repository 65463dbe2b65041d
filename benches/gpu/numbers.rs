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

/// Normal numbers of the device's own generator, in bf16: as logits and hidden states are.
pub(crate) fn normal(device: &Device, dims: &[usize], scale: f32) -> Result<Tensor> {
    Tensor::randn(0f32, scale, dims, device)?.to_dtype(DType::BF16)
}

/// Ids below `vocab`.
pub(crate) fn ids(n: usize, vocab: usize) -> Result<Tensor> {
    let ids: Vec<u32> = (0..n).map(|i| (i * 7919 % vocab) as u32).collect();
    Tensor::from_vec(ids, n, &Device::Cpu)
}

/// The tensor's values in f64 on the CPU.
pub(crate) fn exact(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)
}

/// Some rows of the tensor, in f64 on the CPU.
pub(crate) fn rows(tensor: &Tensor, chosen: &[usize]) -> Result<Tensor> {
    // A view would bring all that it is a view of.
    let rows = chosen.iter().map(|row| exact(&tensor.narrow(0, *row, 1)?.force_contiguous()?));
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
}

/// Largest difference relative to the part's largest value; NaN counts as the worst.
pub(crate) fn difference(got: &Tensor, want: &Tensor) -> Result<f64> {
    let flat = |tensor: &Tensor| exact(tensor)?.flatten_all()?.to_vec1::<f64>();
    let (got, want) = (flat(got)?, flat(want)?);
    if got.len() != want.len() {
        return Ok(f64::NAN);
    }
    let largest = want.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let off = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
    let worst = off.fold(0.0, |worst, off| if off <= worst { worst } else { off });
    Ok(if worst == 0.0 { 0.0 } else { worst / largest })
}
