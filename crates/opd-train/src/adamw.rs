use std::{collections::HashMap, path::Path};

use candle_core::{Device, Tensor, safetensors};
use opd_kernels::{AdamWStep, adamw_moments, adamw_step};
use opd_models::{Gradients, Parameters};

use crate::{Error, Result, config::OptimizerConfig};

/// AdamW over a model's parameters, with moments that can be saved.
#[derive(Debug)]
pub struct AdamW {
    moments: Vec<[Tensor; 2]>,
    updates: u64,
}

const NAMES: [&str; 2] = ["exp_avg", "exp_avg_sq"];

impl AdamW {
    /// Moments of zero.
    ///
    /// # Errors
    ///
    /// If the device has no room.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let moments = parameters.iter().map(|parameter| Ok(adamw_moments(&parameter.tensor())?));
        Ok(Self { moments: moments.collect::<Result<_>>()?, updates: 0 })
    }

    /// Number of updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Changes the parameters that have a gradient; returns the gradient's norm before
    /// clipping.
    ///
    /// # Errors
    ///
    /// [`opd_models::Error::NotFinite`] naming the parameter, and nothing is changed.
    pub fn update(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        lr: f64,
        config: &OptimizerConfig,
    ) -> Result<f64> {
        let norm = gradients.norm(parameters)?;
        let gradient_scale = match config.clip_grad {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        let settings = AdamWStep {
            lr,
            beta1: config.beta1,
            beta2: config.beta2,
            eps: config.eps,
            weight_decay: config.weight_decay,
            gradient_scale,
            step: self.updates + 1,
        };
        let moments = self.moments.iter();
        for ((parameter, gradient), [first, second]) in
            parameters.iter().zip(gradients.iter()).zip(moments)
        {
            if let Some(gradient) = gradient {
                adamw_step(&parameter.tensor(), gradient, first, second, &settings)?;
            }
        }
        self.updates += 1;
        Ok(norm)
    }

    /// Writes the moments as safetensors.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        for (parameter, moments) in parameters.iter().zip(&self.moments) {
            for (name, moment) in NAMES.iter().zip(moments) {
                tensors.insert(format!("{}.{name}", parameter.name()), moment.clone());
            }
        }
        Ok(safetensors::save(&tensors, path)?)
    }

    /// Reads moments that [`AdamW::save`] wrote after `updates` updates.
    ///
    /// # Errors
    ///
    /// [`Error::State`] if the file is not of these parameters.
    pub fn load(
        parameters: &Parameters,
        path: &Path,
        updates: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut tensors = safetensors::load(path, device)?;
        let mut take = |name: String, like: &Tensor| match tensors.remove(&name) {
            Some(tensor) if tensor.shape() == like.shape() && tensor.dtype() == like.dtype() => {
                Ok(tensor)
            }
            _ => Err(Error::State {
                path: path.to_owned(),
                what: format!(
                    "moment `{name}` {:?} is missing; the checkpoint is of another model",
                    like.dims()
                ),
            }),
        };
        let moments = parameters.iter().map(|parameter| {
            let like = parameter.tensor();
            let moments = adamw_moments(&like)?;
            for (name, moment) in NAMES.iter().zip(&moments) {
                let saved = take(format!("{}.{name}", parameter.name()), &like)?;
                moment.flatten_all()?.slice_set(&saved.flatten_all()?, 0, 0)?;
            }
            Ok(moments)
        });
        Ok(Self { moments: moments.collect::<Result<_>>()?, updates })
    }
}
