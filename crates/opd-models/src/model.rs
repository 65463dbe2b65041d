use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    Head, HeadGradient, Products, RotaryTable, WeightRef, add_rms_norm, embedding,
    linear_token_logprobs, rms_norm, rms_norm_backward, scatter_add_rows,
};

use crate::{
    Checkpointing, Error, Gradients, ModelConfig, Packed, Parameters, Result,
    block::{Block, Place, Table, Vector},
    loader::{Frozen, Loader, WeightSource},
    lora::Lora,
    tape::{Layer, Residual, Tape},
    weights::WeightFiles,
};

/// A decoder-only language model with its own forward and backward.
///
/// Hidden states are those after the final norm; logits are never formed here: losses and
/// scores take hidden states and [`CausalLm::head`] through the fused kernels.
#[derive(Debug)]
pub struct CausalLm {
    pub(crate) config: ModelConfig,
    /// All tensors of the Hugging Face layout but those that are held for reading alone.
    pub(crate) weights: Parameters,
    /// What is trained instead of them.
    pub(crate) lora: Option<Lora>,
    pub(crate) embedding: Table,
    pub(crate) blocks: Vec<Block>,
    /// Those of the blocks' matrices and of the head.
    pub(crate) products: Products,
    pub(crate) norm: Vector,
    /// `None` where the embedding is the head.
    pub(crate) head: Option<Table>,
    pub(crate) rotary: Mutex<Arc<RotaryTable>>,
    pub(crate) source: PathBuf,
}

impl CausalLm {
    /// Loads a Hugging Face directory: `config.json` and safetensors weights.
    ///
    /// # Errors
    ///
    /// Every fault of the files, naming the file and the field or tensor.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let config = ModelConfig::load(dir)?;
        let source = WeightSource::Files(WeightFiles::open(dir)?);
        Loader::new(config, source, dtype, device).load(dir)
    }

    /// Loads a model that is not trained: as [`CausalLm::load_encoded`] where `stored`, and every
    /// other matrix that is multiplied is held once, in the order in which these products read it
    /// ([`EncodedMatrix::packed`](opd_kernels::EncodedMatrix::packed)). Decoding then needs no copy.
    ///
    /// On the CPU; every result has the bits that the model of [`CausalLm::load`] in f32 with these
    /// products gives. [`CausalLm::save`] writes the values that are held: those of
    /// [`Products::Bf16`] are rounded.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`].
    pub fn load_frozen(dir: impl AsRef<Path>, products: Products, stored: bool) -> Result<Self> {
        Self::load_as(dir.as_ref(), Frozen { stored, packed: Some(products) })
    }

    /// Loads a model that is not trained, or under adapters alone: matrices that the files have in
    /// bf16, f16 or blocks of a quantized type stay so, and are decoded a tile at a time. Norms,
    /// biases and what the files have in f32 or f64 are f32.
    ///
    /// On the CPU; every result has the bits that the model of [`CausalLm::load`] in f32 gives.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`].
    pub fn load_encoded(dir: impl AsRef<Path>) -> Result<Self> {
        Self::load_as(dir.as_ref(), Frozen { stored: true, packed: None })
    }

    fn load_as(dir: &Path, frozen: Frozen) -> Result<Self> {
        let config = ModelConfig::load(dir)?;
        let source = WeightSource::Files(WeightFiles::open(dir)?);
        Loader::new(config, source, DType::F32, &Device::Cpu).frozen(frozen).load(dir)
    }

    /// A model of random weights from `config.json` alone: matrices normal with the config's
    /// `initializer_range` (0.02 if it has none), norms 1, biases 0.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`].
    pub fn random(dir: impl AsRef<Path>, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let config = ModelConfig::load(dir)?;
        let source = WeightSource::random(seed, config.initializer_range());
        Loader::new(config, source, dtype, device).load(dir)
    }

    /// What `config.json` says.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All trainable tensors: the weights, or the adapters of a model that has them.
    pub fn parameters(&self) -> &Parameters {
        self.lora.as_ref().map_or(&self.weights, |lora| &lora.parameters)
    }

    /// Number of values in its weights, frozen or not; adapters are apart.
    pub fn n_weights(&self) -> usize {
        let encoded = self.encoded().map(|encoded| encoded.matrix.elem_count());
        self.weights.n_values() + encoded.sum::<usize>()
    }

    /// Bytes that its weights take of memory; adapters and packed copies are apart.
    pub fn weight_bytes(&self) -> u64 {
        let values = self.weights.n_values() * self.dtype().size_in_bytes();
        let encoded = self.encoded().map(|encoded| encoded.matrix.n_bytes());
        (values + encoded.sum::<usize>()) as u64
    }

    /// Where the model was loaded from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Device of the weights.
    pub fn device(&self) -> &Device {
        self.norm.values.device()
    }

    /// Dtype that the weights are computed in.
    pub fn dtype(&self) -> DType {
        self.norm.values.dtype()
    }

    /// `logits = hidden head^T`; outside any graph.
    pub fn head(&self) -> Head<'_> {
        Head::new(&self.head_table().values, self.products)
    }

    fn head_table(&self) -> &Table {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Packs sequences for this model.
    ///
    /// # Errors
    ///
    /// As [`Packed::new`].
    pub fn pack(&self, sequences: &[opd_batch::ScoredSequence<'_>]) -> Result<Packed> {
        Packed::new(sequences, &self.config, self.device())
    }

    /// Hidden states that predict the response tokens, `[T, H]`; keeps no graph.
    ///
    /// # Errors
    ///
    /// If a kernel fails.
    pub fn hidden(&self, packed: &Packed) -> Result<Tensor> {
        let rotary = self.rotary(packed.n_positions)?;
        let place = Place { positions: &packed.positions, rotary: &rotary, spans: &packed.spans };
        let mut residual = self.embed(&packed.tokens)?;
        for block in &self.blocks {
            residual = block.forward(residual, &place)?.0;
        }
        let (_, hidden) = self.leave(residual)?;
        Ok(embedding(&hidden, &packed.predictors)?)
    }

    /// Log-prob, log-sum-exp and entropy of every response token, `[T]` each; keeps no graph.
    ///
    /// # Errors
    ///
    /// If a kernel fails.
    pub fn token_logprobs(
        &self,
        packed: &Packed,
        temperature: f64,
    ) -> Result<opd_kernels::TokenLogprobs> {
        let hidden = self.hidden(packed)?;
        Ok(linear_token_logprobs(&hidden, self.head(), packed.targets(), temperature)?)
    }

    /// Runs a training forward, calls `loss` with the hidden states that predict the response
    /// tokens (`[T, H]`) and the head (`[V, H]`), and adds the gradient of the scalar it
    /// returns to `gradients`, for every parameter.
    ///
    /// The two tensors carry candle's graph, so the loss is free to be anything that candle
    /// can differentiate; the transformer below them has a backward of its own.
    ///
    /// # Errors
    ///
    /// What `loss` returns; [`Error::NotScalar`]; [`Error::NoGradient`] if its result does not
    /// depend on the hidden states; [`Error::Frozen`] as [`ModelConfig::check_trainable`];
    /// [`Error::Encoded`] for a model of [`CausalLm::load_encoded`] without adapters
    /// or of [`CausalLm::load_frozen`].
    pub fn differentiate<R, E: From<Error>>(
        &self,
        packed: &Packed,
        checkpointing: Checkpointing,
        gradients: &mut Gradients,
        loss: impl FnOnce(&Tensor, Head<'_>) -> std::result::Result<(Tensor, R), E>,
    ) -> std::result::Result<R, E> {
        self.differentiate_with(packed, checkpointing, gradients, None, loss)
    }

    /// As [`Self::differentiate`], for a loss that also reads parameters beside the model, such
    /// as a [`ValueHead`](crate::ValueHead)'s; their gradients are added to those given with them.
    ///
    /// # Errors
    ///
    /// As [`Self::differentiate`].
    pub fn differentiate_with<R, E: From<Error>>(
        &self,
        packed: &Packed,
        checkpointing: Checkpointing,
        gradients: &mut Gradients,
        beside: Option<(&Parameters, &mut Gradients)>,
        loss: impl FnOnce(&Tensor, Head<'_>) -> std::result::Result<(Tensor, R), E>,
    ) -> std::result::Result<R, E> {
        self.check_trainable()?;
        let (hidden, tape) = self.forward(packed, checkpointing)?;
        let rows = embedding(&hidden, &packed.predictors).map_err(Error::from)?;
        let rows = Var::from_tensor(&rows).map_err(Error::from)?;
        let head = self.head_table();
        // A head that is outside the graph costs no gradient.
        let weight: WeightRef<'_> = match self.parameters().get(head.id) {
            Some(trained) => trained.var().as_tensor().into(),
            None => (&head.values).into(),
        };
        let gathered = HeadGradient::default();
        let whole = Head { gradient: Some(&gathered), ..Head::new(weight, self.products) };
        let (value, result) = loss(rows.as_tensor(), whole)?;
        if value.rank() != 0 {
            return Err(Error::NotScalar { got: value.dims().to_vec() }.into());
        }
        let mut store = value.backward().map_err(Error::from)?;
        drop(value);
        let drows = store.remove(rows.as_tensor()).ok_or(Error::NoGradient)?;
        let by_candle = weight.tensor().and_then(|head| store.remove(head));
        for dhead in [gathered.take(), by_candle].into_iter().flatten() {
            gradients.add_tensor(head.id, dhead)?;
        }
        if let Some((parameters, gradients)) = beside {
            gradients.add_found(parameters, &mut store)?;
        }
        let dhidden = hidden.zeros_like().map_err(Error::from)?;
        scatter_add_rows(&dhidden, &packed.predictors, &drows).map_err(Error::from)?;
        drop(hidden);
        self.backward(packed, tape, &dhidden, gradients)?;
        Ok(result)
    }

    fn forward(&self, packed: &Packed, checkpointing: Checkpointing) -> Result<(Tensor, Tape)> {
        let rotary = self.rotary(packed.n_positions)?;
        let place = Place { positions: &packed.positions, rotary: &rotary, spans: &packed.spans };
        let mut residual = self.embed(&packed.tokens)?;
        let mut layers = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (next, saved) = block.forward(residual, &place)?;
            residual = next;
            layers.push(match checkpointing {
                Checkpointing::Off => Layer::Saved(Box::new(saved)),
                Checkpointing::PerLayer => Layer::Input(saved.x),
            });
        }
        let (last, hidden) = self.leave(residual)?;
        Ok((hidden, Tape { layers, last }))
    }

    fn backward(
        &self,
        packed: &Packed,
        tape: Tape,
        dhidden: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let rotary = self.rotary(packed.n_positions)?;
        let place = Place { positions: &packed.positions, rotary: &rotary, spans: &packed.spans };
        let eps = self.config.rms_norm_eps;
        let (mut dx, dnorm) = rms_norm_backward(&tape.last, &self.norm.values, dhidden, None, eps)?;
        gradients.add_tensor(self.norm.id, dnorm)?;
        for (block, layer) in self.blocks.iter().zip(tape.layers).rev() {
            let saved = match layer {
                Layer::Saved(saved) => *saved,
                Layer::Input(x) => block.forward(Residual { x, delta: None }, &place)?.1,
            };
            dx = block.backward(saved, &place, &dx, gradients)?;
        }
        let table = &self.embedding;
        gradients.add_rows(table.id, table.values.dims(), &packed.tokens, &dx)
    }

    /// Takes over the weights of another directory of the same architecture and sizes; adapters
    /// stay as they are.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`]; [`Error::Encoded`] for a model of [`CausalLm::load_encoded`] or
    /// [`CausalLm::load_frozen`].
    pub fn reload(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        self.check_decoded("replaced")?;
        let mut source = WeightSource::Files(WeightFiles::open(dir)?);
        for parameter in self.weights.iter() {
            let values = parameter.tensor();
            let columns = values.dims().get(1).copied();
            let fresh = source.stack(parameter.parts(), columns, self.dtype(), self.device())?;
            parameter.var().set(&fresh)?;
        }
        Ok(())
    }

    /// Rows of the embedding table, as the products read matrices.
    pub(crate) fn embed(&self, tokens: &Tensor) -> Result<Residual> {
        let rows = embedding(&self.embedding.values, tokens)?;
        let x = match self.products {
            Products::Full => rows,
            Products::Bf16 => rows.to_dtype(DType::BF16)?.to_dtype(DType::F32)?,
        };
        Ok(Residual { x, delta: None })
    }

    /// The residual stream and its final norm.
    pub(crate) fn leave(&self, residual: Residual) -> Result<(Tensor, Tensor)> {
        let (x, norm, eps) = (residual.x, &self.norm.values, self.config.rms_norm_eps);
        match residual.delta {
            Some(delta) => Ok(add_rms_norm(&x, &delta, norm, eps)?),
            None => {
                let hidden = rms_norm(&x, norm, eps)?;
                Ok((x, hidden))
            }
        }
    }

    /// Cosines and sines for at least these positions; the table grows by doubling.
    pub(crate) fn rotary(&self, n_positions: usize) -> Result<Arc<RotaryTable>> {
        let mut table = self.rotary.lock().unwrap_or_else(PoisonError::into_inner);
        if table.n_positions() < n_positions {
            let (dtype, device) = (self.dtype(), self.device());
            let n_positions = n_positions.next_power_of_two().min(self.config.context);
            *table = Arc::new(rotary_table(&self.config, n_positions, dtype, device)?);
        }
        Ok(table.clone())
    }
}

pub(crate) fn rotary_table(
    config: &ModelConfig,
    n_positions: usize,
    dtype: DType,
    device: &Device,
) -> Result<RotaryTable> {
    let frequencies = config.rope.inverse_frequencies(config.rope_theta, config.head_dim);
    let table = RotaryTable::new(&frequencies, n_positions, dtype, device)?;
    match config.rope.attention_factor() {
        1.0 => Ok(table),
        factor => Ok(table.scaled(factor)?),
    }
}
