use candle_core::DType;
use opd_kernels::Products;

use crate::{CausalLm, Error, Result, block::Block};

impl CausalLm {
    /// The model with these products in its layers and its head, forward and backward: `x W^T` and
    /// its two gradients in attention, feed-forward, experts and logits. Tokens are embedded by the
    /// table's values as products read them.
    ///
    /// Weights, norms, attention, the residual stream, routers and adapters stay as they are, and so
    /// do gradients and what trains on them.
    ///
    /// # Errors
    ///
    /// [`Error::DType`] if [`Products::Bf16`] is asked of a model that is not of f32,
    /// [`Error::Kernel`] of one on neither the CPU nor an NVIDIA GPU.
    pub fn with_products(mut self, products: Products) -> Result<Self> {
        if products == Products::Bf16 {
            if self.dtype() != DType::F32 {
                let what = "model with bf16 products".to_owned();
                return Err(Error::DType { what, got: self.dtype(), supported: "f32" });
            }
            if !self.device().is_cpu() && !self.device().is_cuda() {
                let device = format!("{:?}", self.device().location());
                return Err(opd_kernels::Error::Device { op: "bf16 products", device }.into());
            }
        }
        for matrix in self.blocks.iter_mut().flat_map(Block::layer_matrices_mut) {
            matrix.products = products;
        }
        self.products = products;
        Ok(self)
    }

    /// The products in its layers and its head.
    pub fn products(&self) -> Products {
        self.products
    }
}
