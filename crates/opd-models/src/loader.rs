use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::Heads;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_distr::{Distribution, Normal};

use crate::{
    CausalLm, Error, ModelConfig, Parameters, Result,
    block::{Block, Matrix, Vector},
    model::rotary_table,
    parameters::Parameter,
    weights::WeightFiles,
};

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

    /// Named tensors of `rows x columns` (or vectors) stacked along their first dimension.
    pub(crate) fn stack(
        &mut self,
        parts: &[(String, usize)],
        columns: Option<usize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let tensors = parts.iter().map(|(name, rows)| {
            let shape: Vec<usize> = std::iter::once(*rows).chain(columns).collect();
            match self {
                Self::Files(files) => files.tensor(name, &shape, dtype, device),
                Self::Random { .. } if name.ends_with(".bias") => {
                    Ok(Tensor::zeros(shape, dtype, device)?)
                }
                Self::Random { .. } if columns.is_none() => Ok(Tensor::ones(shape, dtype, device)?),
                Self::Random { rng, std } => {
                    let unit = Normal::new(0.0, *std).map_err(candle_core::Error::wrap)?;
                    let n = shape.iter().product();
                    let mut values: Vec<f64> = Vec::new();
                    if values.try_reserve_exact(n).is_err() {
                        return Err(Error::TooLarge { name: name.clone(), shape });
                    }
                    values.extend(unit.sample_iter(&mut **rng).take(n));
                    Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
                }
            }
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&tensors, 0)?)
    }
}

/// Reads weights in the Hugging Face layout and stacks what is used together.
pub(crate) struct Loader<'a> {
    config: ModelConfig,
    source: WeightSource,
    dtype: DType,
    device: &'a Device,
    parameters: Parameters,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        config: ModelConfig,
        source: WeightSource,
        dtype: DType,
        device: &'a Device,
    ) -> Self {
        Self { config, source, dtype, device, parameters: Parameters::default() }
    }

    pub(crate) fn load(mut self, dir: &Path) -> Result<CausalLm> {
        if !matches!(self.dtype, DType::F32 | DType::F64) {
            let what = "model".to_owned();
            return Err(Error::DType { what, got: self.dtype, supported: "f32 or f64" });
        }
        let config = self.config.clone();
        let (vocab, width) = (config.vocab_size, config.hidden_size);
        let embedding = self.stack(&[("model.embed_tokens.weight", vocab)], Some(width))?;
        let blocks = (0..config.n_layers).map(|i| self.block(i)).collect::<Result<Vec<_>>>()?;
        let norm = self.vector("model.norm.weight", width)?;
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(self.stack(&[("lm_head.weight", vocab)], Some(width))?),
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
        let (parameters, source) = (self.parameters, dir.to_owned());
        Ok(CausalLm { config, parameters, embedding, blocks, norm, head, rotary, source })
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
        let (gate, up) = (name("mlp.gate_proj"), name("mlp.up_proj"));
        let gate_up = self.matrix(&[(&gate, inner), (&up, inner)], width, c.mlp_bias)?;
        let down = self.matrix(&[(&name("mlp.down_proj"), width)], inner, c.mlp_bias)?;
        let heads = Heads { heads: c.n_heads, kv_heads: c.n_kv_heads, head_dim: c.head_dim };
        let eps = c.rms_norm_eps;
        Ok(Block { heads, eps, input_norm, qkv, head_norms, output, mlp_norm, gate_up, down })
    }

    fn matrix(&mut self, parts: &[(&str, usize)], columns: usize, bias: bool) -> Result<Matrix> {
        let named = |suffix: &str| -> Vec<(String, usize)> {
            parts.iter().map(|(name, rows)| (format!("{name}.{suffix}"), *rows)).collect()
        };
        let borrowed = |parts: &[(String, usize)], loader: &mut Self, columns| {
            let parts: Vec<(&str, usize)> =
                parts.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
            loader.stack(&parts, columns)
        };
        let weight = borrowed(&named("weight"), self, Some(columns))?;
        let bias = match bias {
            true => Some(borrowed(&named("bias"), self, None)?),
            false => None,
        };
        Ok(Matrix { id: weight.id, weight: weight.values, bias })
    }

    fn vector(&mut self, name: &str, width: usize) -> Result<Vector> {
        self.stack(&[(name, width)], None)
    }

    /// Tensors of `rows x columns` (or vectors) stacked along their first dimension.
    fn stack(&mut self, parts: &[(&str, usize)], columns: Option<usize>) -> Result<Vector> {
        let parts: Vec<(String, usize)> =
            parts.iter().map(|&(name, rows)| (name.to_owned(), rows)).collect();
        let var =
            Var::from_tensor(&self.source.stack(&parts, columns, self.dtype, self.device)?)?;
        let (id, values) = self.parameters.push(Parameter::new(parts, var));
        Ok(Vector { id, values })
    }
}
