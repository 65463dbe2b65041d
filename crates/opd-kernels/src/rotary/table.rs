use candle_core::{DType, Device, Tensor};

use crate::Result;

/// Cosines and sines of rotary position embedding: each `[P, head_dim / 2]`.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryTable {
    /// Angles `p * inverse_frequencies[i]` for the positions `0..n_positions`.
    ///
    /// # Errors
    ///
    /// If candle cannot make the tensors.
    pub fn new(
        inverse_frequencies: &[f64],
        n_positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let angles = (0..n_positions)
            .flat_map(|p| inverse_frequencies.iter().map(move |frequency| p as f64 * frequency));
        let angles = Tensor::from_vec(
            angles.collect::<Vec<f64>>(),
            (n_positions, inverse_frequencies.len()),
            &Device::Cpu,
        )?;
        let on_device = |t: Tensor| t.to_dtype(dtype)?.to_device(device);
        Ok(Self { cos: on_device(angles.cos()?)?, sin: on_device(angles.sin()?)? })
    }

    /// Cosines and sines times `factor`: queries and keys become longer, so that logits of
    /// attention grow by `factor^2` (YaRN).
    ///
    /// # Errors
    ///
    /// If candle cannot make the tensors.
    pub fn scaled(&self, factor: f64) -> Result<Self> {
        Ok(Self { cos: (&self.cos * factor)?, sin: (&self.sin * factor)? })
    }

    /// The same values in another dtype.
    ///
    /// # Errors
    ///
    /// If candle fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(Self { cos: self.cos.to_dtype(dtype)?, sin: self.sin.to_dtype(dtype)? })
    }

    /// Cosines, `[P, head_dim / 2]`.
    pub(crate) fn cos(&self) -> &Tensor {
        &self.cos
    }

    /// Sines, `[P, head_dim / 2]`.
    pub(crate) fn sin(&self) -> &Tensor {
        &self.sin
    }

    /// Number of positions.
    pub fn n_positions(&self) -> usize {
        self.cos.dims()[0]
    }
}
