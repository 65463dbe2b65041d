mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod qwen3_moe;

use std::path::Path;

use crate::{Error, Result, config::Fields};

/// A family of decoder-only transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// Query and key norms, no biases.
    Qwen3,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Neither, unless the config asks for biases; SmolLM2 is one.
    Llama,
    /// As Llama, without biases.
    Mistral,
    /// Qwen3 whose feed-forward asks a few of many experts; it is run, not trained.
    Qwen3Moe,
}

/// Where one architecture departs from the others.
pub(crate) struct Family {
    /// What `architectures` in `config.json` has.
    pub(crate) class: &'static str,
    /// What `model_type` has.
    pub(crate) model_type: &'static str,
    /// What `general.architecture` of a GGUF file has.
    pub(crate) gguf: Option<&'static str>,
    /// Whether GGUF files have the rows of queries and keys in the order of interleaved pairs.
    pub(crate) gguf_permuted: bool,
    /// Whether queries and keys are normed per head.
    pub(crate) qk_norm: bool,
    pub(crate) qkv_bias: Bias,
    pub(crate) output_bias: Bias,
    pub(crate) mlp_bias: Bias,
    pub(crate) window: Window,
    /// Whether layers may have experts.
    pub(crate) experts: bool,
}

/// When a product has a bias.
pub(crate) enum Bias {
    Never,
    Always,
    /// If this field is true.
    If(&'static str),
}

/// How a config says that attention looks back so far and no farther.
pub(crate) enum Window {
    /// It has no such field.
    Never,
    /// `sliding_window` counts if `use_sliding_window` is true.
    IfUsed,
    /// `sliding_window` counts unless it is null; this many tokens where it is missing.
    UnlessNull(usize),
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 5] =
        [Self::Qwen3, Self::Qwen2, Self::Llama, Self::Mistral, Self::Qwen3Moe];

    pub(crate) fn family(self) -> &'static Family {
        match self {
            Self::Qwen3 => &qwen3::FAMILY,
            Self::Qwen2 => &qwen2::FAMILY,
            Self::Llama => &llama::FAMILY,
            Self::Mistral => &mistral::FAMILY,
            Self::Qwen3Moe => &qwen3_moe::FAMILY,
        }
    }

    /// The name that `architectures` in `config.json` has.
    pub fn name(self) -> &'static str {
        self.family().class
    }

    /// Every name, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// What `architectures` names, or else `model_type`.
    pub(crate) fn of(fields: &Fields<'_>) -> Result<Self> {
        let names = fields.value("architectures").and_then(|names| names.as_array());
        let name = names.and_then(|names| names.first()).and_then(|name| name.as_str());
        let model_type = fields.value("model_type").and_then(|name| name.as_str());
        let found = Self::ALL.into_iter().find(|architecture| match name {
            Some(name) => architecture.family().class == name,
            None => model_type == Some(architecture.family().model_type),
        });
        found.ok_or_else(|| Self::unknown(fields.path, name.or(model_type).unwrap_or("none")))
    }

    pub(crate) fn unknown(path: &Path, got: &str) -> Error {
        Error::Architecture { path: path.into(), got: got.to_owned(), supported: Self::names() }
    }
}

impl Bias {
    pub(crate) fn read(&self, fields: &Fields<'_>) -> Result<bool> {
        match self {
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::If(field) => Ok(fields.flag(field)?.unwrap_or(false)),
        }
    }
}

impl Window {
    /// The longest sequence, of at most `context` tokens, that no window cuts.
    pub(crate) fn uncut(&self, fields: &Fields<'_>, context: usize) -> Result<usize> {
        let said = fields.optional_size("sliding_window")?;
        let window = match self {
            Self::Never => None,
            Self::IfUsed if fields.flag("use_sliding_window")?.unwrap_or(false) => {
                Some(said.unwrap_or(4096))
            }
            Self::IfUsed => None,
            Self::UnlessNull(_) if fields.json.contains_key("sliding_window") => said,
            Self::UnlessNull(missing) => Some(*missing),
        };
        Ok(window.map_or(context, |window| context.min(window)))
    }
}
