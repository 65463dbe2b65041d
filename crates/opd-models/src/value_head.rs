use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::linear;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, Normal};

use crate::{
    Error, Parameters, Result, loader::WeightSource, parameters::Parameter, save::save_parameters,
    weights::WeightFiles,
};

const WEIGHT: &str = "value_head.weight";
const BIAS: &str = "value_head.bias";

/// One number per token from hidden states: the head of a critic.
///
/// ```text
/// value_t = weight . hidden_t + bias
/// ```
///
/// In units of the reward. `weight` is `[1, H]`, `bias` is `[1]`. A value depends bit for bit on
/// its own hidden state alone, and gradients sum over tokens in one order, whatever the number
/// of threads.
///
/// Source: Schulman et al. 2017, <https://arxiv.org/abs/1707.06347>; the scale of the first
/// weights from Huang et al. 2024, <https://arxiv.org/abs/2403.17031>.
#[derive(Debug)]
pub struct ValueHead {
    parameters: Parameters,
    weight: Var,
    bias: Var,
}

impl ValueHead {
    /// File of a directory that holds a head. It is read by nothing but [`ValueHead::load`]:
    /// beside a model's own files it changes nothing for other programs that load by index or
    /// by the name `model.safetensors`.
    pub const FILE: &'static str = "value_head.safetensors";

    /// A head for hidden states of width `width`: weights normal with standard deviation
    /// `1 / (width + 1)`, so that first values are small, and bias 0.
    ///
    /// # Errors
    ///
    /// If the device has no room.
    pub fn random(width: usize, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let unit = Normal::new(0.0, 1.0 / (width + 1) as f64).map_err(candle_core::Error::wrap)?;
        let weight: Vec<f64> = unit.sample_iter(&mut rng).take(width).collect();
        let weight = Tensor::from_vec(weight, (1, width), device)?.to_dtype(dtype)?;
        Self::new(&weight, &Tensor::zeros(1, dtype, device)?)
    }

    /// Reads `value_head.safetensors` of a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::MissingTensor`] or [`Error::TensorShape`], naming the file.
    pub fn load(
        dir: impl AsRef<Path>,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut file = WeightSource::Files(WeightFiles::single(&dir.as_ref().join(Self::FILE))?);
        let mut read =
            |name: &str, columns| file.stack(&[(name.to_owned(), 1)], columns, dtype, device);
        let (weight, bias) = (read(WEIGHT, Some(width))?, read(BIAS, None)?);
        Self::new(&weight, &bias)
    }

    fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (weight, bias) = (Var::from_tensor(weight)?, Var::from_tensor(bias)?);
        let mut parameters = Parameters::default();
        for (name, var) in [(WEIGHT, &weight), (BIAS, &bias)] {
            parameters.push(Parameter::new(vec![(name.to_owned(), 1)], var.clone()));
        }
        Ok(Self { parameters, weight, bias })
    }

    /// Weight and bias, in this order.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Values `[T]` of hidden states `[T, H]`; gradients flow to the head, and to `hidden` where
    /// it carries a graph.
    ///
    /// # Errors
    ///
    /// [`opd_kernels::Error::Shape`] for another width.
    pub fn values(&self, hidden: &Tensor) -> Result<Tensor> {
        project(hidden, self.weight.as_tensor(), self.bias.as_tensor())
    }

    /// As [`Self::values`], with gradients for `hidden` alone.
    ///
    /// # Errors
    ///
    /// As [`Self::values`].
    pub fn frozen_values(&self, hidden: &Tensor) -> Result<Tensor> {
        project(hidden, &self.weight.as_detached_tensor(), &self.bias.as_detached_tensor())
    }

    /// Takes over the values of another directory's head.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn reload(&self, dir: impl AsRef<Path>) -> Result<()> {
        let width = self.weight.elem_count();
        let other = Self::load(dir, width, self.weight.dtype(), self.weight.device())?;
        self.weight.set(other.weight.as_tensor())?;
        Ok(self.bias.set(other.bias.as_tensor())?)
    }

    /// Writes `value_head.safetensors` into a directory that exists, in f32, and syncs it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        save_parameters(&self.parameters, &dir.as_ref().join(Self::FILE))
    }
}

fn project(hidden: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok::<_, Error>(linear(hidden, weight)?.squeeze(1)?.broadcast_add(bias)?)
}
