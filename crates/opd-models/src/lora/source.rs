use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

use crate::{Result, loader::WeightSource, weights::WeightFiles};

/// Where the values of new adapters come from.
pub(crate) enum AdapterSource {
    /// A file in the format of `peft`.
    File(WeightSource),
    /// First factors uniform in `+-1 / sqrt(K)`, second factors 0: the model is what it was.
    Fresh(Box<ChaCha8Rng>),
}

impl AdapterSource {
    pub(crate) fn file(path: &Path) -> Result<Self> {
        Ok(Self::File(WeightSource::Files(WeightFiles::single(path)?)))
    }

    /// First factors of these names, stacked: `[names * rank, columns]`.
    pub(crate) fn down(
        &mut self,
        parts: &[(String, usize)],
        columns: usize,
        (dtype, device): (DType, &Device),
    ) -> Result<Var> {
        match self {
            Self::File(file) => file.stack(parts, Some(columns), dtype, device),
            Self::Fresh(rng) => {
                let bound = 1.0 / (columns as f64).sqrt();
                let uniform =
                    Uniform::new_inclusive(-bound, bound).map_err(candle_core::Error::wrap)?;
                let rows: usize = parts.iter().map(|(_, rows)| rows).sum();
                let values: Vec<f64> =
                    uniform.sample_iter(&mut **rng).take(rows * columns).collect();
                let values = Tensor::from_vec(values, (rows, columns), device)?;
                Ok(Var::from_tensor(&values.to_dtype(dtype)?)?)
            }
        }
    }

    /// A second factor, `[rows, rank]`.
    pub(crate) fn up(
        &mut self,
        part: &(String, usize),
        rank: usize,
        (dtype, device): (DType, &Device),
    ) -> Result<Var> {
        match self {
            Self::File(file) => file.stack(std::slice::from_ref(part), Some(rank), dtype, device),
            Self::Fresh(_) => Ok(Var::zeros((part.1, rank), dtype, device)?),
        }
    }

    /// A tensor of the file that nothing has read, with the file.
    pub(crate) fn first_unused(&self) -> Option<(PathBuf, String)> {
        match self {
            Self::File(WeightSource::Files(files)) => files.first_unused(|_| false),
            _ => None,
        }
    }
}
