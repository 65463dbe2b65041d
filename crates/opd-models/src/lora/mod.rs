//! Low-rank adapters on a model whose weights are frozen.

mod adapter;
mod config;
mod peft;
mod source;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

pub(crate) use self::adapter::Adapter;
pub use self::config::{ALL_LINEAR, LoraConfig, LoraTarget};
use self::{adapter::Up, source::AdapterSource};
use crate::{
    CausalLm, Error, Parameters, Result,
    block::{Block, Matrix, Vector},
    parameters::Parameter,
};

/// The adapters of a model.
#[derive(Clone, Debug)]
pub(crate) struct Lora {
    pub(crate) config: LoraConfig,
    /// What is trained.
    pub(crate) parameters: Parameters,
    /// The directory that they were loaded from.
    pub(crate) source: Option<PathBuf>,
}

impl LoraConfig {
    /// The settings in `adapter_config.json` of a directory as the `peft` package writes it.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::with_adapter`].
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        peft::read_config(dir.as_ref())
    }
}

impl CausalLm {
    /// Freezes all weights and gives every target a new adapter, which changes nothing until it
    /// is trained: first factors are uniform in `+-1 / sqrt(K)` by `seed`, second ones 0.
    ///
    /// # Errors
    ///
    /// [`Error::Lora`] for settings out of their range, or a model that has adapters.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self> {
        let fresh = AdapterSource::Fresh(Box::new(ChaCha8Rng::seed_from_u64(seed)));
        self.adapted(config, fresh, None)
    }

    /// Freezes all weights and takes the adapters of a directory as the `peft` package writes it:
    /// `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; [`Error::Config`] for what is not supported (DoRA, ranks per layer, trained
    /// biases or whole modules); [`Error::MissingTensor`], [`Error::TensorShape`] or
    /// [`Error::UnusedTensor`] for an adapter of another model.
    pub fn with_adapter(self, dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let config = peft::read_config(dir)?;
        self.adapted(&config, AdapterSource::file(&dir.join(peft::WEIGHTS))?, Some(dir))
    }

    fn adapted(
        mut self,
        config: &LoraConfig,
        mut source: AdapterSource,
        dir: Option<&Path>,
    ) -> Result<Self> {
        config.check()?;
        if self.lora.is_some() {
            return Err(Error::Lora { what: "the model has adapters already".into() });
        }
        let mut parameters = Parameters::behind(&self.weights);
        let like = (self.dtype(), &self.device().clone());
        for block in &mut self.blocks {
            for matrix in block.matrices_mut() {
                matrix.adapter = adapter(matrix, like, config, &mut source, &mut parameters)?;
            }
        }
        if let Some((path, name)) = source.first_unused() {
            let architecture = self.config.architecture.name();
            return Err(Error::UnusedTensor { path, name, architecture });
        }
        let source = dir.map(Path::to_owned);
        self.lora = Some(Lora { config: config.clone(), parameters, source });
        Ok(self)
    }

    /// Settings of its adapters, if it has any.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref().map(|lora| &lora.config)
    }

    /// The directory that its adapters were loaded from; `None` for new ones.
    pub fn adapter_source(&self) -> Option<&Path> {
        self.lora.as_ref()?.source.as_deref()
    }

    /// The model below the adapters. It shares the weights: it costs no memory, and where they
    /// are frozen it stays what it is.
    pub fn without_adapter(&self) -> Self {
        let mut blocks = self.blocks.clone();
        for matrix in blocks.iter_mut().flat_map(Block::matrices_mut) {
            matrix.adapter = None;
        }
        self.sharing(blocks, None)
    }

    /// The model with adapters of its own, now of the same values; the weights are shared.
    ///
    /// # Errors
    ///
    /// If the device has no room.
    pub fn with_own_adapter(&self) -> Result<Self> {
        let Some(lora) = &self.lora else { return Ok(self.without_adapter()) };
        let own = Lora { parameters: lora.parameters.copied()?, ..lora.clone() };
        let mut blocks = self.blocks.clone();
        let adapters = blocks.iter_mut().flat_map(Block::matrices_mut);
        for adapter in adapters.filter_map(|matrix| matrix.adapter.as_mut()) {
            let factors = adapter.ups.iter_mut().map(|up| &mut up.factor);
            for factor in factors.chain([&mut adapter.down]) {
                if let Some(parameter) = own.parameters.get(factor.id) {
                    factor.values = parameter.tensor();
                }
            }
        }
        Ok(self.sharing(blocks, Some(own)))
    }

    fn sharing(&self, blocks: Vec<Block>, lora: Option<Lora>) -> Self {
        let rotary = self.rotary.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            config: self.config.clone(),
            weights: self.weights.clone(),
            lora,
            embedding: self.embedding.clone(),
            blocks,
            products: self.products,
            norm: self.norm.clone(),
            head: self.head.clone(),
            rotary: Mutex::new(Arc::<_>::clone(&rotary)),
            source: self.source.clone(),
        }
    }

    /// The values of a weight (by its place) with its adapters added; `None` without any.
    pub(crate) fn merged(&self, place: usize) -> Option<Result<Tensor>> {
        let mut matrices = self.blocks.iter().flat_map(Block::matrices);
        let matrix = matrices.find(|matrix| matrix.id.0 == place)?;
        let adapter = matrix.adapter.as_ref()?;
        Some(
            matrix
                .weight
                .as_ref()
                .to_tensor()
                .map_err(Error::from)
                .and_then(|w| adapter.merged(&w)),
        )
    }
}

/// The adapters of a matrix; `None` if none of its parts is a target.
fn adapter(
    matrix: &Matrix,
    like: (DType, &Device),
    config: &LoraConfig,
    source: &mut AdapterSource,
    parameters: &mut Parameters,
) -> Result<Option<Adapter>> {
    let mut start = 0;
    let mut chosen = Vec::new();
    for (name, rows) in &matrix.parts {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        let layer = module.rsplit('.').next().unwrap_or(module);
        if config.targets.iter().any(|target| target.name() == layer) {
            chosen.push((peft::names(module), start, *rows));
        }
        start += rows;
    }
    if chosen.is_empty() {
        return Ok(None);
    }
    let (rank, columns) = (config.rank, matrix.weight.dims()[1]);
    let mut push = |parts: Vec<(String, usize)>, var: Var| {
        let (id, values) = parameters.push(Parameter::new(parts, var));
        Vector { id, values }
    };
    let downs: Vec<(String, usize)> =
        chosen.iter().map(|([down, _], ..)| (down.clone(), rank)).collect();
    let values = source.down(&downs, columns, like)?;
    let down = push(downs, values);
    let mut ups = Vec::with_capacity(chosen.len());
    for ([_, name], start, rows) in chosen {
        let part = (name, rows);
        let values = source.up(&part, rank, like)?;
        ups.push(Up { start, factor: push(vec![part], values) });
    }
    Ok(Some(Adapter { scale: config.scale(), rank, down, ups }))
}
