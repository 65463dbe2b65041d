use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result, Rope};

const SUPPORTED: &str = "Qwen3ForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM";

/// Largest size that a config may ask for, before any allocation.
const LARGEST: u64 = 1 << 26;

/// A family of decoder-only transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// Query and key norms, no biases.
    Qwen3,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Neither, unless the config asks for biases.
    Llama,
}

impl Architecture {
    /// The name that `architectures` in `config.json` has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
        }
    }
}

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
    /// Longest sequence.
    pub context: usize,
    /// Ids that end a response; from `generation_config.json` where there is one.
    pub eos_token_ids: Vec<u32>,
    /// The file as read, kept for saving.
    pub(crate) json: Map<String, Value>,
}

/// Ids that end a response, by `generation_config.json` or else `config.json` of a directory; of
/// any architecture. None if neither file names one.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Config`] naming the field.
pub fn eos_token_ids(dir: &Path) -> Result<Vec<u32>> {
    let ids = match eos_of(&dir.join("generation_config.json"))? {
        None => eos_of(&dir.join("config.json"))?,
        ids => ids,
    };
    Ok(ids.unwrap_or_default())
}

/// What one file says, if it is there.
fn eos_of(path: &Path) -> Result<Option<Vec<u32>>> {
    match path.exists() {
        true => Fields { path, json: read_object(path)? }.token_ids("eos_token_id"),
        false => Ok(None),
    }
}

impl ModelConfig {
    /// Reads `config.json` (transformers 4 or 5) and `generation_config.json` of a directory.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Architecture`], or [`Error::Config`] naming the field.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let mut config = Self::parse(&path, read_object(&path)?)?;
        if let Some(ids) = eos_of(&dir.join("generation_config.json"))? {
            config.eos_token_ids = ids;
        }
        Ok(config)
    }

    fn parse(path: &Path, json: Map<String, Value>) -> Result<Self> {
        let fields = Fields { path, json };
        let architecture = fields.architecture()?;
        let n_heads = fields.size("num_attention_heads")?;
        let hidden_size = fields.size("hidden_size")?;
        let n_kv_heads = fields.optional_size("num_key_value_heads")?.unwrap_or(n_heads);
        let head_dim = fields.optional_size("head_dim")?.unwrap_or(hidden_size / n_heads);
        if !n_heads.is_multiple_of(n_kv_heads) {
            return fields.bad(format!(
                "num_attention_heads ({n_heads}) must be a multiple of num_key_value_heads ({n_kv_heads})"
            ));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return fields.bad(format!("head_dim must be even and above 0, got {head_dim}"));
        }
        if fields.flag("use_sliding_window")?.unwrap_or(false) {
            return fields.bad("use_sliding_window is not supported".into());
        }
        if let Some(other) = fields.value("hidden_act").filter(|act| *act != "silu") {
            return fields.bad(format!("hidden_act must be \"silu\", got {other}"));
        }
        if let Some(Value::Array(layers)) = fields.value("layer_types")
            && let Some(other) = layers.iter().find(|layer| *layer != "full_attention")
        {
            return fields.bad(format!("layer_types must all be \"full_attention\", got {other}"));
        }
        let (rope_theta, rope) = fields.rope()?;
        let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
        Ok(Self {
            architecture,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            n_layers: fields.size("num_hidden_layers")?,
            n_heads,
            n_kv_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: attention_bias || architecture == Architecture::Qwen2,
            output_bias: attention_bias && architecture != Architecture::Qwen2,
            mlp_bias: architecture == Architecture::Llama
                && fields.flag("mlp_bias")?.unwrap_or(false),
            context: fields.size("max_position_embeddings")?,
            eos_token_ids: fields.token_ids("eos_token_id")?.unwrap_or_default(),
            json: fields.json,
        })
    }

    /// `initializer_range`, or 0.02.
    pub(crate) fn initializer_range(&self) -> f64 {
        self.json.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02)
    }

    /// Whether queries and keys are normed per head.
    pub fn qk_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }
}

struct Fields<'a> {
    path: &'a Path,
    json: Map<String, Value>,
}

impl Fields<'_> {
    fn bad<T>(&self, what: String) -> Result<T> {
        Err(Error::Config { path: PathBuf::from(self.path), what })
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.json.get(name).filter(|value| !value.is_null())
    }

    fn size(&self, name: &str) -> Result<usize> {
        match self.optional_size(name)? {
            Some(value) => Ok(value),
            None => self.bad(format!("field `{name}` is missing")),
        }
    }

    fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST).contains(&size) => Ok(Some(size as usize)),
            _ => self
                .bad(format!("`{name}` must be a whole number from 1 to {LARGEST}, got {value}")),
        }
    }

    fn positive(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number > 0.0 => Ok(Some(number)),
            _ => self.bad(format!("`{name}` must be a number above 0, got {value}")),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_bool() {
            Some(flag) => Ok(Some(flag)),
            None => self.bad(format!("`{name}` must be true or false, got {value}")),
        }
    }

    fn token_ids(&self, name: &str) -> Result<Option<Vec<u32>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let ids = list.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
        match ids.collect() {
            Some(ids) => Ok(Some(ids)),
            None => self.bad(format!("`{name}` must be a token id or a list of them, got {value}")),
        }
    }

    fn architecture(&self) -> Result<Architecture> {
        let names = self.value("architectures").and_then(Value::as_array);
        let name = names.and_then(|names| names.first()).and_then(Value::as_str);
        let model_type = self.value("model_type").and_then(Value::as_str);
        match (name, model_type) {
            (Some("Qwen3ForCausalLM"), _) | (None, Some("qwen3")) => Ok(Architecture::Qwen3),
            (Some("Qwen2ForCausalLM"), _) | (None, Some("qwen2")) => Ok(Architecture::Qwen2),
            (Some("LlamaForCausalLM"), _) | (None, Some("llama")) => Ok(Architecture::Llama),
            (name, model_type) => Err(Error::Architecture {
                path: self.path.into(),
                got: name.or(model_type).unwrap_or("none").to_owned(),
                supported: SUPPORTED,
            }),
        }
    }

    fn rope(&self) -> Result<(f64, Rope)> {
        let scaling = self.value("rope_parameters").or_else(|| self.value("rope_scaling"));
        let empty = Map::new();
        let scaling = match scaling {
            None => &empty,
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                return self.bad(format!("rope settings must be an object, got {other}"));
            }
        };
        let theta = match scaling.get("rope_theta") {
            None => self.positive("rope_theta")?.unwrap_or(10_000.0),
            Some(theta) => match theta.as_f64() {
                Some(number) if number > 0.0 => number,
                _ => {
                    return self.bad(format!("`rope_theta` must be a number above 0, got {theta}"));
                }
            },
        };
        let partial = scaling.get("partial_rotary_factor").or(self.value("partial_rotary_factor"));
        if let Some(other) = partial.filter(|factor| factor.as_f64() != Some(1.0)) {
            return self.bad(format!("partial_rotary_factor must be 1, got {other}"));
        }
        match Rope::from_json(scaling) {
            Ok(rope) => Ok((theta, rope)),
            Err(what) => self.bad(what),
        }
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::Config { path: path.into(), what: "expected a JSON object".into() }),
        Err(error) => Err(Error::Config { path: path.into(), what: error.to_string() }),
    }
}
