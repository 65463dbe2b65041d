use std::path::Path;

use candle_core::{DType, Device};
use opd_kernels::Products;
use opd_models::CausalLm;
use serde::{Deserialize, Serialize};

/// How weights that are not trained are held, on the CPU; results are the same. On a GPU they are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrozenWeights {
    /// As `stored` for models that are frozen as a whole: teachers and start policies. As `f32` below
    /// adapters that are trained.
    #[default]
    Auto,
    /// Matrices as their file has them, in bf16, f16 or blocks of a quantized type, and decoded as
    /// they are read: the least memory.
    Stored,
    /// As f32.
    F32,
}

impl FrozenWeights {
    /// Loads a model that is frozen as a whole, with these products. On the CPU its matrices are held
    /// in the order in which the products read them, but for those that stay as their file has them.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`] and [`CausalLm::with_products`].
    pub fn load(
        self,
        dir: &Path,
        products: Products,
        device: &Device,
    ) -> opd_models::Result<CausalLm> {
        match device.is_cpu() {
            true => CausalLm::load_frozen(dir, products, self != Self::F32),
            false => CausalLm::load(dir, DType::F32, device)?.with_products(products),
        }
    }

    /// Loads a model that adapters are trained on.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`].
    pub fn load_below_adapters(self, dir: &Path, device: &Device) -> opd_models::Result<CausalLm> {
        match self == Self::Stored && device.is_cpu() {
            true => CausalLm::load_encoded(dir),
            false => CausalLm::load(dir, DType::F32, device),
        }
    }
}
