mod experts;
mod fields;

use std::path::Path;

use serde_json::{Map, Value};

pub use self::experts::Experts;
pub(crate) use self::fields::{Fields, object_of};
use crate::{Architecture, Error, Result, Rope, files::ModelFiles};

/// Largest width of one head; no published model has more than 512.
const LARGEST_HEAD: usize = 1 << 16;

/// What `config.json` says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward.
    pub intermediate_size: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope: Rope,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Biases on queries, keys and values.
    pub qkv_bias: bool,
    /// Bias on the attention's output.
    pub output_bias: bool,
    /// Biases in the feed-forward.
    pub mlp_bias: bool,
    /// Longest sequence: `max_position_embeddings`, or the window of attention where that is shorter.
    pub context: usize,
    /// The experts, where the feed-forward has some.
    pub experts: Option<Experts>,
    /// Ids that end a response; from `generation_config.json` where there is one.
    pub eos_token_ids: Vec<u32>,
    /// The file as read, kept for saving.
    pub(crate) json: Map<String, Value>,
}

/// Ids that end a response, by `generation_config.json` or else `config.json` of a directory, or
/// by a GGUF file; of any architecture. None if neither names one.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Config`] naming the field.
pub fn eos_token_ids(dir: &Path) -> Result<Vec<u32>> {
    let files = ModelFiles::open(dir)?;
    let ids = match eos_of(&files, "generation_config.json")? {
        None => eos_of(&files, "config.json")?,
        ids => ids,
    };
    Ok(ids.unwrap_or_default())
}

/// What one file says, if it is there.
fn eos_of(files: &ModelFiles, name: &str) -> Result<Option<Vec<u32>>> {
    match files.object(name)? {
        Some((path, json)) => Fields { path: &path, json }.token_ids("eos_token_id"),
        None => Ok(None),
    }
}

impl ModelConfig {
    /// Reads `config.json` (transformers 4 or 5) and `generation_config.json` of a directory, or
    /// the metadata of a GGUF file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Architecture`], [`Error::Gguf`], or [`Error::Config`] naming the
    /// field.
    pub fn load(dir: &Path) -> Result<Self> {
        let files = ModelFiles::open(dir)?;
        let (path, json) = files.required("config.json")?;
        let mut config = Self::parse(&path, json)?;
        if let Some(ids) = eos_of(&files, "generation_config.json")? {
            config.eos_token_ids = ids;
        }
        Ok(config)
    }

    pub(crate) fn parse(path: &Path, json: Map<String, Value>) -> Result<Self> {
        let fields = Fields { path, json };
        let architecture = Architecture::of(&fields)?;
        let family = architecture.family();
        let n_heads = fields.size("num_attention_heads")?;
        let hidden_size = fields.size("hidden_size")?;
        let n_kv_heads = fields.optional_size("num_key_value_heads")?.unwrap_or(n_heads);
        let head_dim = fields.optional_size("head_dim")?.unwrap_or(hidden_size / n_heads);
        let n_layers = fields.size("num_hidden_layers")?;
        let context = fields.size("max_position_embeddings")?;
        if !n_heads.is_multiple_of(n_kv_heads) {
            return fields.bad(format!(
                "num_attention_heads ({n_heads}) must be a multiple of num_key_value_heads ({n_kv_heads})"
            ));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > LARGEST_HEAD {
            return fields.bad(format!(
                "head_dim must be even, above 0 and at most {LARGEST_HEAD}, got {head_dim}"
            ));
        }
        if let Some(other) = fields.value("hidden_act").filter(|act| *act != "silu") {
            return fields.bad(format!("hidden_act must be \"silu\", got {other}"));
        }
        if let Some(Value::Array(layers)) = fields.value("layer_types")
            && let Some(other) = layers.iter().find(|layer| *layer != "full_attention")
        {
            return fields.bad(format!("layer_types must all be \"full_attention\", got {other}"));
        }
        let (rope_theta, rope) = fields.rope(context, head_dim)?;
        Ok(Self {
            architecture,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: family.qkv_bias.read(&fields)?,
            output_bias: family.output_bias.read(&fields)?,
            mlp_bias: family.mlp_bias.read(&fields)?,
            context: family.window.uncut(&fields, context)?,
            experts: family.experts.then(|| Experts::read(&fields, n_layers)).transpose()?,
            eos_token_ids: fields.token_ids("eos_token_id")?.unwrap_or_default(),
            json: fields.json,
        })
    }

    /// `initializer_range`, or 0.02.
    pub(crate) fn initializer_range(&self) -> f64 {
        self.json.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02)
    }

    /// Passes if there is a backward.
    ///
    /// # Errors
    ///
    /// [`Error::Frozen`] for a mixture of experts.
    pub fn check_trainable(&self) -> Result<()> {
        match self.experts {
            None => Ok(()),
            Some(_) => Err(Error::Frozen { what: self.architecture.name() }),
        }
    }

    /// Whether queries and keys are normed per head.
    pub fn qk_norm(&self) -> bool {
        self.architecture.family().qk_norm
    }
}
