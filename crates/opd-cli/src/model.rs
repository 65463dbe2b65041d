use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

use anyhow::Context;
use candle_core::Device;
use clap::Args;
use opd_models::{CausalLm, Tokenizer, resolve};
use opd_rollout::packed_tokens;
use opd_train::config::{FrozenWeights, Precision};

use crate::config::choices;

/// Which model a command asks.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelFlag {
    /// A Hugging Face model directory, a GGUF file, or a name on the hub
    /// (ORGANISATION/NAME[@REVISION]); text needs its tokenizer, token ids do not
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// What its matrix products take of their operands: `bf16` rounds them
    #[arg(long, value_name = "NAME", value_parser = choices::<Precision>(), default_value = "f32")]
    pub(crate) precision: Precision,
    /// How its weights are held, on the CPU: `f32`, or `stored`, as the file has them, which takes less
    /// memory; `auto` is `f32` where answers are long enough that generation needs that anyway, and
    /// else `stored`; results are the same
    #[arg(long, value_name = "NAME", value_parser = choices::<FrozenWeights>(), default_value = "auto")]
    pub(crate) frozen_weights: FrozenWeights,
}

impl ModelFlag {
    /// Where the model lies, once it is here.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        Ok(resolve(&self.model)?)
    }
}

/// A model, and its tokenizer once text asks for it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) lm: CausalLm,
    dir: PathBuf,
    tokenizer: OnceCell<Tokenizer>,
}

impl Model {
    /// To score, or for answers of at most `max_new_tokens`.
    pub(crate) fn load(
        flag: &ModelFlag,
        max_new_tokens: Option<usize>,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let dir = flag.path()?;
        let products = flag.precision.products();
        let weights = match flag.frozen_weights {
            // Weights that are read for every token are unpacked once.
            FrozenWeights::Auto if max_new_tokens.is_some_and(|n| n >= packed_tokens(products)) => {
                FrozenWeights::F32
            }
            own => own,
        };
        let lm = weights.load(&dir, products, device)?;
        opd_kernels::keep_freed_memory();
        Ok(Self { lm, dir, tokenizer: OnceCell::new() })
    }

    pub(crate) fn tokenizer(&self) -> anyhow::Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let loaded = Tokenizer::load(&self.dir)
            .context("text needs the model's tokenizer (token ids do not)")?;
        Ok(self.tokenizer.get_or_init(|| loaded))
    }

    /// Where the model lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Passes if the model has an embedding for every token and a context that holds them.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), String> {
        let config = self.lm.config();
        let (vocab, context) = (config.vocab_size, config.context);
        if let Some(place) = tokens.iter().position(|&id| id as usize >= vocab) {
            let id = tokens[place];
            return Err(format!(
                "token id {id} (token {place} from 0) is outside the vocabulary of {vocab}"
            ));
        }
        if tokens.len() > context {
            let length = tokens.len();
            return Err(format!("{length} tokens; the model's context holds {context}"));
        }
        Ok(())
    }
}
