use opd_models::{CausalLm, Checkpointing, Footprint, Packed};

use crate::config::OptimizerConfig;

/// Bytes that the layers of one forward may keep before they are computed twice instead.
pub(crate) const KEPT_BYTES: u64 = 2 << 30;

/// What a forward of `packed` keeps: what the settings say, or else every layer's tensors if
/// those of all micro-batches that run side by side fit into [`KEPT_BYTES`].
///
/// Gradients have the same bits either way.
pub(crate) fn checkpointing(
    config: &OptimizerConfig,
    model: &CausalLm,
    packed: &Packed,
) -> Checkpointing {
    decide(config, &Footprint::of(model.config(), model.products()), packed.n_computed())
}

/// As [`checkpointing`], of a forward of `tokens`.
pub(crate) fn decide(
    config: &OptimizerConfig,
    footprint: &Footprint,
    tokens: usize,
) -> Checkpointing {
    let all = tokens as u64 * config.micro_batches_at_once as u64;
    let kept = all * footprint.kept_per_token(Checkpointing::Off);
    match config.activation_checkpointing.unwrap_or(kept > KEPT_BYTES) {
        true => Checkpointing::PerLayer,
        false => Checkpointing::Off,
    }
}

#[cfg(test)]
mod tests {
    use opd_kernels::Products;
    use opd_models::ModelConfig;
    use opd_testkit::GoldenModel;

    use super::*;

    #[test]
    fn large_forwards_are_computed_twice_unless_told_otherwise() {
        let model = ModelConfig::load(&GoldenModel::load("llama_tied").dir).unwrap();
        let footprint = Footprint::of(&model, Products::Full);
        let fits = (KEPT_BYTES / footprint.kept_per_token(Checkpointing::Off)) as usize;
        let of = |said, at_once, tokens| {
            let config = OptimizerConfig {
                activation_checkpointing: said,
                micro_batches_at_once: at_once,
                ..OptimizerConfig::default()
            };
            decide(&config, &footprint, tokens)
        };
        assert_eq!(of(None, 1, fits), Checkpointing::Off);
        assert_eq!(of(None, 1, fits + 1), Checkpointing::PerLayer);
        assert_eq!(of(None, 2, fits / 2 + 1), Checkpointing::PerLayer);
        assert_eq!(of(Some(false), 1, 10 * fits), Checkpointing::Off);
        assert_eq!(of(Some(true), 1, 1), Checkpointing::PerLayer);
    }
}
