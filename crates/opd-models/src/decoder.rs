use std::sync::Arc;

use candle_core::Tensor;
use opd_kernels::{Head, PackedWeight, Products, Spans, linear_packed};
use rayon::prelude::*;

use crate::{
    CausalLm, Error, KvCache, Result,
    block::{PackedBlock, Place},
};

/// A model that reads a few new tokens at a time over a cache, as generation does.
///
/// Its values are those of the model's other forwards, bit for bit, packed or not. Clones share what
/// is packed.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    model: &'a CausalLm,
    packed: Option<Arc<PackedModel>>,
}

/// The matrices in the order in which few rows read them fastest.
#[derive(Debug)]
struct PackedModel {
    blocks: Vec<PackedBlock>,
    head: PackedWeight,
}

impl<'a> Decoder<'a> {
    /// Reads the weights where they are.
    pub fn new(model: &'a CausalLm) -> Self {
        Self { model, packed: None }
    }

    /// Reads a copy of the matrices that is made for products with few rows: on the CPU, and for
    /// [`Products::Bf16`] on a GPU, where it holds the rounded values; else as [`Decoder::new`]. The
    /// copy has the weights as they are now and lives as long as this. Experts of a mixture are not
    /// copied.
    ///
    /// # Errors
    ///
    /// If a kernel fails.
    pub fn packed(model: &'a CausalLm) -> Result<Self> {
        let blocks = match (model.device().is_cpu(), model.products) {
            (true, _) => model.blocks.par_iter().map(PackedBlock::new).collect::<Result<_>>()?,
            (false, Products::Full) => return Ok(Self::new(model)),
            (false, Products::Bf16) => {
                model.blocks.iter().map(PackedBlock::new).collect::<Result<_>>()?
            }
        };
        let head = model.products.pack(model.head().weight)?;
        Ok(Self { model, packed: Some(Arc::new(PackedModel { blocks, head })) })
    }

    /// The model that reads.
    pub fn model(&self) -> &'a CausalLm {
        self.model
    }

    /// Runs new tokens over a cache: writes their keys and values to `rows` and returns their
    /// hidden states `[T, H]`.
    ///
    /// `spans` has the new tokens as queries and the cache's rows as keys.
    ///
    /// # Errors
    ///
    /// If a row, position or token id is out of range; [`Error::Cache`] if the cache was made
    /// for another model.
    pub fn hidden(
        &self,
        tokens: &[u32],
        positions: &[u32],
        rows: &[usize],
        spans: &Spans,
        cache: &KvCache,
    ) -> Result<Tensor> {
        let model = self.model;
        if cache.n_layers() != model.blocks.len() {
            return Err(Error::Cache { expected: model.blocks.len(), got: cache.n_layers() });
        }
        let n_positions = positions.iter().max().map_or(0, |&last| last as usize + 1);
        let rotary = model.rotary(n_positions)?;
        let vector = |ids: &[u32]| Tensor::from_slice(ids, ids.len(), model.device());
        let positions = vector(positions)?;
        let place = Place { positions: &positions, rotary: &rotary, spans };
        let mut residual = model.embed(&vector(tokens)?)?;
        for (layer, block) in model.blocks.iter().enumerate() {
            let packed = self.packed.as_ref().and_then(|packed| packed.blocks.get(layer));
            residual = block.forward_cached(residual, &place, &cache.layer(layer, rows), packed)?;
        }
        Ok(model.leave(residual)?.1)
    }

    /// Logits `[T, V]` of hidden states `[T, H]`.
    ///
    /// # Errors
    ///
    /// If the width is not the model's.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(match &self.packed {
            Some(packed) => linear_packed(hidden, &packed.head)?,
            None => {
                let Head { weight, products, .. } = self.model.head();
                products.linear(hidden, weight)?
            }
        })
    }
}
