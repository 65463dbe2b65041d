use opd_kernels::Products;
use serde::{Deserialize, Serialize};

/// What matrix products of a model take of their operands, in its layers and its head. Weights,
/// gradients, moments and sums are f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// The values as they are.
    #[default]
    F32,
    /// The values rounded to bf16, summed in f32.
    Bf16,
}

impl Precision {
    /// The products of [`CausalLm::with_products`](opd_models::CausalLm::with_products).
    pub fn products(self) -> Products {
        match self {
            Self::F32 => Products::Full,
            Self::Bf16 => Products::Bf16,
        }
    }
}
