use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Var, WithDType};
use opd_kernels::{EncodedMatrix, Heads, Products, Weight, give_back_freed_memory};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, Normal};

use crate::{
    CausalLm, Error, Experts, ModelConfig, Parameters, Result,
    block::{Block, Matrix, Table, Vector},
    feed_forward::FeedForward,
    mixture::{Expert, Mixture},
    model::rotary_table,
    parameters::{Parameter, ParameterId},
    weights::WeightFiles,
};

/// Bytes of values in f32 that are given back as soon as they are packed: those of a table, not of a layer,
/// whose memory serves the next.
const LARGE: usize = 64 << 20;

/// Where a new model's values come from.
pub(crate) enum WeightSource {
    /// The safetensors files of a directory.
    Files(WeightFiles),
    /// A generator.
    Random {
        /// Seeded once per model.
        rng: Box<ChaCha8Rng>,
        /// Standard deviation of matrices.
        std: f64,
    },
}

impl WeightSource {
    pub(crate) fn random(seed: u64, std: f64) -> Self {
        Self::Random { rng: Box::new(ChaCha8Rng::seed_from_u64(seed)), std }
    }

    /// Named tensors of `rows x columns` (or vectors), one after the other.
    fn values<T: WithDType>(
        &mut self,
        parts: &[(String, usize)],
        columns: Option<usize>,
    ) -> Result<Vec<T>> {
        let shape = |rows: usize| -> Vec<usize> { std::iter::once(rows).chain(columns).collect() };
        if let Self::Files(files) = self {
            parts.iter().try_for_each(|(name, rows)| files.check(name, &shape(*rows)))?;
        }
        let size = |(_, rows): &(String, usize)| rows.checked_mul(columns.unwrap_or(1));
        let total = parts.iter().map(size).try_fold(0, |sum: usize, n| sum.checked_add(n?));
        let mut values: Vec<T> = Vec::new();
        if total.is_none_or(|total| values.try_reserve_exact(total).is_err()) {
            let rows = parts.iter().map(|(_, rows)| rows).sum();
            return Err(Error::TooLarge { name: parts[0].0.clone(), shape: shape(rows) });
        }
        for part @ (name, _) in parts {
            let n = size(part).unwrap_or(0);
            match self {
                Self::Files(files) => files.append(name, &mut values)?,
                Self::Random { .. } if name.ends_with(".bias") => {
                    values.extend(std::iter::repeat_n(T::zero(), n));
                }
                Self::Random { .. } if columns.is_none() => {
                    values.extend(std::iter::repeat_n(T::one(), n));
                }
                Self::Random { rng, std } => {
                    let unit = Normal::new(0.0, *std).map_err(candle_core::Error::wrap)?;
                    values.extend(unit.sample_iter(&mut **rng).take(n).map(T::from_f64));
                }
            }
        }
        Ok(values)
    }

    /// Named tensors of `rows x columns` (or vectors) stacked along their first dimension.
    pub(crate) fn stack(
        &mut self,
        parts: &[(String, usize)],
        columns: Option<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Var> {
        let rows = parts.iter().map(|(_, rows)| rows).sum();
        let shape: Vec<usize> = std::iter::once(rows).chain(columns).collect();
        match dtype {
            DType::F32 => Ok(Var::from_vec(self.values::<f32>(parts, columns)?, shape, device)?),
            DType::F64 => Ok(Var::from_vec(self.values::<f64>(parts, columns)?, shape, device)?),
            got => Err(Error::DType { what: "model".to_owned(), got, supported: "f32 or f64" }),
        }
    }

    /// Named matrices of `rows x columns` stacked as the files have them, if all are there in
    /// encodings that take less than f32.
    fn encoded(
        &mut self,
        parts: &[(String, usize)],
        columns: usize,
    ) -> Result<Option<EncodedMatrix>> {
        let Self::Files(files) = self else { return Ok(None) };
        for (name, rows) in parts {
            files.check(name, &[*rows, columns])?;
        }
        let kinds = parts.iter().map(|(name, _)| files.encoding(name));
        let Some(kinds) = kinds.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let read = |(kind, (name, rows)): (_, &(String, usize))| -> Result<_> {
            let mut bytes = Vec::new();
            if !files.append_encoded(name, &mut bytes)? {
                return Err(Error::TooLarge { name: name.clone(), shape: vec![*rows, columns] });
            }
            Ok((kind, bytes))
        };
        let read = kinds.into_iter().zip(parts).map(read).collect::<Result<Vec<_>>>()?;
        Ok(Some(EncodedMatrix::new(read, columns)?))
    }
}

/// How matrices that are not trained are held.
#[derive(Clone, Copy)]
pub(crate) struct Frozen {
    /// Whether those whose files have them in less than f32 stay so.
    pub(crate) stored: bool,
    /// The products that the others are packed for, if they are.
    pub(crate) packed: Option<Products>,
}

/// Reads weights in the Hugging Face layout and stacks what is used together.
pub(crate) struct Loader<'a> {
    config: ModelConfig,
    source: WeightSource,
    dtype: DType,
    device: &'a Device,
    /// How the matrices of a model that is not trained are held.
    frozen: Option<Frozen>,
    parameters: Parameters,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        config: ModelConfig,
        source: WeightSource,
        dtype: DType,
        device: &'a Device,
    ) -> Self {
        Self { config, source, dtype, device, frozen: None, parameters: Parameters::default() }
    }

    /// Of a model that is not trained.
    pub(crate) fn frozen(self, frozen: Frozen) -> Self {
        Self { frozen: Some(frozen), ..self }
    }

    pub(crate) fn load(mut self, dir: &Path) -> Result<CausalLm> {
        let config = self.config.clone();
        let (vocab, width) = (config.vocab_size, config.hidden_size);
        // Packing what is not multiplied gains nothing, but for values that it rounds.
        let packs = config.tie_word_embeddings || self.products() == Products::Bf16;
        let embedding = self.table("model.embed_tokens.weight", vocab, width, packs)?;
        let head = |loader: &mut Self| match config.tie_word_embeddings {
            true => Ok(None),
            false => loader.table("lm_head.weight", vocab, width, true).map(Some),
        };
        // A table that is packed is copied before much else is held.
        let early = self.frozen.map(|_| head(&mut self)).transpose()?;
        let blocks = (0..config.n_layers).map(|i| self.block(i)).collect::<Result<Vec<_>>>()?;
        let norm = self.vector("model.norm.weight", width)?;
        let head = match early {
            Some(head) => head,
            None => head(&mut self)?,
        };
        let ignored = |name: &str| {
            name.ends_with("rotary_emb.inv_freq")
                || (config.tie_word_embeddings && name == "lm_head.weight")
        };
        if let WeightSource::Files(files) = &self.source
            && let Some((path, name)) = files.first_unused(ignored)
        {
            let architecture = config.architecture.name();
            return Err(Error::UnusedTensor { path, name, architecture });
        }
        let rotary = rotary_table(&config, config.context.min(64), self.dtype, self.device)?;
        let rotary = Mutex::new(Arc::new(rotary));
        let (products, source) = (self.products(), dir.to_owned());
        let model = CausalLm {
            config,
            weights: self.parameters,
            lora: None,
            embedding,
            blocks,
            products: Products::Full,
            norm,
            head,
            rotary,
            source,
        };
        model.with_products(products)
    }

    /// Those that matrices are packed for.
    fn products(&self) -> Products {
        self.frozen.and_then(|frozen| frozen.packed).unwrap_or_default()
    }

    fn block(&mut self, layer: usize) -> Result<Block> {
        let c = self.config.clone();
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let (width, inner) = (c.hidden_size, c.intermediate_size);
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let input_norm = self.vector(&name("input_layernorm.weight"), width)?;
        let [q_proj, k_proj, v_proj] =
            ["q", "k", "v"].map(|head| name(&format!("self_attn.{head}_proj")));
        let parts = [(q_proj.as_str(), q), (k_proj.as_str(), kv), (v_proj.as_str(), kv)];
        let qkv = self.matrix(&parts, width, c.qkv_bias)?;
        let head_norms = match c.qk_norm() {
            false => None,
            true => Some((
                self.vector(&name("self_attn.q_norm.weight"), c.head_dim)?,
                self.vector(&name("self_attn.k_norm.weight"), c.head_dim)?,
            )),
        };
        let output = self.matrix(&[(&name("self_attn.o_proj"), width)], q, c.output_bias)?;
        let mlp_norm = self.vector(&name("post_attention_layernorm.weight"), width)?;
        let feed_forward = match c.experts.as_ref().filter(|experts| experts.in_layer(layer)) {
            None => self.dense(&name("mlp"), inner, &c)?,
            Some(experts) => self.mixture(&name("mlp"), experts, &c)?,
        };
        let heads = Heads { heads: c.n_heads, kv_heads: c.n_kv_heads, head_dim: c.head_dim };
        let eps = c.rms_norm_eps;
        Ok(Block { heads, eps, input_norm, qkv, head_norms, output, mlp_norm, feed_forward })
    }

    fn gate_up_down(
        &mut self,
        place: &str,
        inner: usize,
        c: &ModelConfig,
    ) -> Result<(Matrix, Matrix)> {
        let name = |part: &str| format!("{place}.{part}_proj");
        let (gate, up) = (name("gate"), name("up"));
        let gate_up = self.matrix(&[(&gate, inner), (&up, inner)], c.hidden_size, c.mlp_bias)?;
        Ok((gate_up, self.matrix(&[(&name("down"), c.hidden_size)], inner, c.mlp_bias)?))
    }

    fn dense(&mut self, place: &str, inner: usize, c: &ModelConfig) -> Result<FeedForward> {
        let (gate_up, down) = self.gate_up_down(place, inner, c)?;
        Ok(FeedForward::Dense { gate_up, down })
    }

    fn mixture(&mut self, place: &str, of: &Experts, c: &ModelConfig) -> Result<FeedForward> {
        let (name, n) = (format!("{place}.gate.weight"), of.n_experts);
        let router = self.plain(vec![(name, n)], c.hidden_size, false)?;
        let expert = |i| {
            let place = format!("{place}.experts.{i}");
            let (gate_up, down) = self.gate_up_down(&place, of.intermediate_size, c)?;
            Ok(Expert { gate_up, down })
        };
        let experts = (0..of.n_experts).map(expert).collect::<Result<_>>()?;
        let (n_active, normalized) = (of.n_active, of.normalized);
        Ok(FeedForward::Mixture(Mixture { router, experts, n_active, normalized }))
    }

    fn table(
        &mut self,
        name: &'static str,
        vocab: usize,
        width: usize,
        packs: bool,
    ) -> Result<Table> {
        let (id, values) = self.weight(&[(name.to_owned(), vocab)], width, packs)?;
        Ok(Table { id, name, values })
    }

    fn matrix(&mut self, parts: &[(&str, usize)], columns: usize, bias: bool) -> Result<Matrix> {
        let named = |suffix: &str| -> Vec<(String, usize)> {
            parts.iter().map(|(name, rows)| (format!("{name}.{suffix}"), *rows)).collect()
        };
        let matrix = self.plain(named("weight"), columns, true)?;
        let bias = match bias {
            true => Some(self.stack(named("bias"), None)?),
            false => None,
        };
        Ok(Matrix { bias, ..matrix })
    }

    /// A matrix without a bias.
    fn plain(
        &mut self,
        parts: Vec<(String, usize)>,
        columns: usize,
        packs: bool,
    ) -> Result<Matrix> {
        let (id, weight) = self.weight(&parts, columns, packs)?;
        Ok(Matrix { id, parts, weight, products: Products::Full, bias: None, adapter: None })
    }

    fn vector(&mut self, name: &str, width: usize) -> Result<Vector> {
        self.stack(vec![(name.to_owned(), width)], None)
    }

    /// Matrices of `rows x columns` stacked along their first dimension; `packs` if a frozen one may
    /// be held as its products read it.
    fn weight(
        &mut self,
        parts: &[(String, usize)],
        columns: usize,
        packs: bool,
    ) -> Result<(ParameterId, Weight)> {
        if self.frozen.is_some_and(|frozen| frozen.stored)
            && let Some(matrix) = self.source.encoded(parts, columns)?
        {
            return Ok((ParameterId::ENCODED, Weight::Encoded(matrix)));
        }
        if let Some(products) = self.frozen.and_then(|frozen| frozen.packed).filter(|_| packs) {
            let values = self.source.stack(parts, Some(columns), DType::F32, &Device::Cpu)?;
            let matrix = EncodedMatrix::packed(products, values.as_tensor())?;
            let is_large = values.elem_count() * size_of::<f32>() >= LARGE;
            drop(values);
            if is_large {
                give_back_freed_memory();
            }
            return Ok((ParameterId::ENCODED, Weight::Encoded(matrix)));
        }
        let Vector { id, values } = self.stack(parts.to_vec(), Some(columns))?;
        Ok((id, Weight::Tensor(values)))
    }

    /// Tensors of `rows x columns` (or vectors) stacked along their first dimension.
    fn stack(&mut self, parts: Vec<(String, usize)>, columns: Option<usize>) -> Result<Vector> {
        let var = self.source.stack(&parts, columns, self.dtype, self.device)?;
        let (id, values) = self.parameters.push(Parameter::new(parts, var));
        Ok(Vector { id, values })
    }
}
