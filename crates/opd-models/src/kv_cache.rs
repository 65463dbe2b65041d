use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use opd_kernels::{Heads, write_rows};

use crate::{Error, ModelConfig, Result};

/// Keys and values of every layer: rows that the caller hands out.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Tensor>,
    n_rows: usize,
}

impl KvCache {
    /// Room for `n_rows` tokens.
    ///
    /// # Errors
    ///
    /// If the device has no room.
    pub fn new(config: &ModelConfig, n_rows: usize, dtype: DType, device: &Device) -> Result<Self> {
        let shape = (config.n_layers, n_rows, 2 * config.n_kv_heads, config.head_dim);
        // One block of memory: with pages of 2 MiB, a block for each layer would be rounded up to whole pages.
        let all = Tensor::zeros(shape, dtype, device)?;
        let layers = (0..config.n_layers).map(|layer| all.get(layer));
        Ok(Self { layers: layers.collect::<candle_core::Result<_>>()?, n_rows })
    }

    pub(crate) fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Copies rows out.
    ///
    /// # Errors
    ///
    /// If there are no such rows, or no room.
    pub fn copy_rows(&self, rows: Range<usize>) -> Result<KvRows> {
        let copy = |layer: &Tensor| layer.narrow(0, rows.start, rows.len())?.force_contiguous();
        let layers = self.layers.iter().map(copy).collect::<candle_core::Result<_>>()?;
        Ok(KvRows { layers, n_rows: rows.len() })
    }

    /// Writes the first `n` of `kept` over the rows from `first` on.
    ///
    /// # Errors
    ///
    /// If either has fewer rows; [`Error::Cache`] if they come from another model.
    pub fn restore(&self, kept: &KvRows, n: usize, first: usize) -> Result<()> {
        if kept.layers.len() != self.layers.len() {
            let (expected, got) = (self.layers.len(), kept.layers.len());
            return Err(Error::Cache { expected, got });
        }
        let rows: Vec<usize> = (first..first + n).collect();
        for (layer, kept) in self.layers.iter().zip(&kept.layers) {
            write_rows(layer, &rows, &kept.narrow(0, 0, n)?)?;
        }
        Ok(())
    }

    pub(crate) fn layer<'a>(&'a self, layer: usize, rows: &'a [usize]) -> CacheRows<'a> {
        CacheRows { layer: &self.layers[layer], rows }
    }
}

/// Keys and values of tokens that follow each other, apart from any cache.
#[derive(Clone, Debug)]
pub struct KvRows {
    layers: Vec<Tensor>,
    n_rows: usize,
}

impl KvRows {
    /// Number of tokens.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Memory that they take.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.elem_count() * layer.dtype().size_in_bytes()).sum()
    }
}

/// The rows of one layer that a forward writes.
#[derive(Debug)]
pub(crate) struct CacheRows<'a> {
    layer: &'a Tensor,
    rows: &'a [usize],
}

impl CacheRows<'_> {
    /// Writes the keys and values of fused rows; returns views of the whole layer's.
    pub(crate) fn write(&self, rotated: &Tensor, heads: Heads) -> Result<(Tensor, Tensor)> {
        let new = rotated.narrow(1, heads.heads, 2 * heads.kv_heads)?;
        write_rows(self.layer, self.rows, &new)?;
        let keys = self.layer.narrow(1, 0, heads.kv_heads)?;
        let values = self.layer.narrow(1, heads.kv_heads, heads.kv_heads)?;
        Ok((keys, values))
    }
}
