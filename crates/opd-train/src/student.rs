//! The model that is trained, and the policy that it starts as.

use std::path::Path;

use candle_core::{DType, Device};
use opd_models::CausalLm;

use crate::{Result, config::TrainConfig};

/// Puts the student's adapters apart from those of anything else that a seed decides.
const ADAPTERS: u64 = 0x6c6f_7261;

/// A model of the run that is trained, in the run's precision.
pub(crate) fn loaded(dir: &Path, config: &TrainConfig, device: &Device) -> Result<CausalLm> {
    let model = CausalLm::load(dir, DType::F32, device)?;
    Ok(model.with_products(config.precision.products())?)
}

/// A model of the run that is frozen, in the run's precision.
pub(crate) fn frozen(dir: &Path, config: &TrainConfig, device: &Device) -> Result<CausalLm> {
    Ok(config.frozen_weights.load(dir, config.precision.products(), device)?)
}

/// The student before training, with its adapters where it has any.
pub(crate) fn load(config: &TrainConfig, device: &Device) -> Result<CausalLm> {
    let path = &config.student.path;
    let Some(lora) = &config.student.lora else {
        let model = loaded(path, config, device)?;
        model.config().check_trainable()?;
        return Ok(model);
    };
    let model = config.frozen_weights.load_below_adapters(path, device)?;
    model.config().check_trainable()?;
    let model = model.with_products(config.precision.products())?;
    Ok(match &lora.adapter {
        Some(dir) => model.with_adapter(dir)?,
        None => model.with_lora(&lora.settings()?, config.seed ^ ADAPTERS)?,
    })
}

/// The policy that `student`, which is not trained yet, is now. With adapters it shares the
/// frozen weights: new ones change nothing and are left out, loaded ones are copied.
pub(crate) fn start(config: &TrainConfig, student: &CausalLm, device: &Device) -> Result<CausalLm> {
    Ok(match (student.lora(), student.adapter_source()) {
        (None, _) => frozen(&config.student.path, config, device)?,
        (Some(_), None) => student.without_adapter(),
        (Some(_), Some(_)) => student.with_own_adapter()?,
    })
}

/// Writes what training has changed of a model: its adapters, or all weights.
pub(crate) fn save(model: &CausalLm, dir: &Path, shard_bytes: u64) -> Result<()> {
    match model.lora() {
        Some(_) => model.save_adapter(dir)?,
        None => model.save_sharded(dir, shard_bytes)?,
    }
    Ok(())
}

/// Takes over what [`save`] wrote.
pub(crate) fn reload(model: &CausalLm, dir: &Path) -> Result<()> {
    match model.lora() {
        Some(_) => model.reload_adapter(dir)?,
        None => model.reload(dir)?,
    }
    Ok(())
}
