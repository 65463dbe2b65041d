use super::Fields;
use crate::Result;

/// The experts of a mixture's layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub n_experts: usize,
    /// How many of them each token asks.
    pub n_active: usize,
    /// Width inside one expert.
    pub intermediate_size: usize,
    /// Whether the weights of those that are asked are scaled to add up to 1.
    pub normalized: bool,
    /// Every how many layers there are experts: layer `i` has some if `i + 1` is a multiple.
    pub step: usize,
    /// Layers that have none all the same.
    pub dense_layers: Vec<usize>,
}

impl Experts {
    /// Whether a layer has experts.
    pub fn in_layer(&self, layer: usize) -> bool {
        (layer + 1).is_multiple_of(self.step) && !self.dense_layers.contains(&layer)
    }

    pub(super) fn read(fields: &Fields<'_>, n_layers: usize) -> Result<Self> {
        // `num_experts` in transformers 4, `num_local_experts` in 5.
        let n_experts = match fields.optional_size("num_experts")? {
            Some(n) => n,
            None => fields.size("num_local_experts")?,
        };
        let n_active = fields.size("num_experts_per_tok")?;
        if n_active > n_experts {
            return fields.bad(format!(
                "num_experts_per_tok ({n_active}) must be at most the number of experts ({n_experts})"
            ));
        }
        Ok(Self {
            n_experts,
            n_active,
            intermediate_size: fields.size("moe_intermediate_size")?,
            normalized: fields.flag("norm_topk_prob")?.unwrap_or(false),
            step: fields.optional_size("decoder_sparse_step")?.unwrap_or(1),
            dense_layers: fields.layers("mlp_only_layers", n_layers)?,
        })
    }
}
