use std::{fs::File, io::Read, path::Path};

use candle_core::{DType, Device};
use opd_kernels::Products;
use opd_models::{CausalLm, Tokenizer, model_files};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A model and what a server says of it.
#[derive(Debug)]
pub struct ServedModel {
    pub(crate) lm: CausalLm,
    pub(crate) tokenizer: Option<Tokenizer>,
    pub(crate) name: String,
    pub(crate) weight_version: String,
}

impl ServedModel {
    /// Loads a Hugging Face directory or GGUF file, in f32; text needs its tokenizer, token ids
    /// do not.
    ///
    /// Its name is that of the directory, its weight version a digest of its files: other
    /// weights are another version.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::load`]; a tokenizer that is there but damaged.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::new(CausalLm::load(dir, DType::F32, device)?)
    }

    /// As [`Self::load`], of a model that is loaded.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn new(lm: CausalLm) -> Result<Self> {
        let dir = &lm.source().to_owned();
        let has_tokenizer = Tokenizer::exists(dir);
        let tokenizer = has_tokenizer.then(|| Tokenizer::load(dir)).transpose()?;
        let name = dir
            .canonicalize()
            .ok()
            .and_then(|dir| dir.file_name().map(|name| name.to_string_lossy().into_owned()));
        let name = name.unwrap_or_else(|| dir.display().to_string());
        let weight_version = digest(dir)?;
        Ok(Self { lm, tokenizer, name, weight_version })
    }

    /// The model with these products in its layers: other scores, thus another weight version.
    ///
    /// # Errors
    ///
    /// As [`CausalLm::with_products`].
    pub fn with_products(mut self, products: Products) -> Result<Self> {
        self.lm = self.lm.with_products(products)?;
        if products == Products::Bf16 {
            self.weight_version += "-bf16";
        }
        Ok(self)
    }

    /// The name that `/v1/models` has and `model` of a request must have.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What `meta_info.weight_version` has.
    #[must_use]
    pub fn with_weight_version(mut self, version: impl Into<String>) -> Self {
        self.weight_version = version.into();
        self
    }

    /// The model.
    pub fn lm(&self) -> &CausalLm {
        &self.lm
    }

    /// Text of one id, as it stands in the vocabulary where it has no text of its own.
    pub(crate) fn text_of(&self, id: u32) -> Option<String> {
        let tokenizer = self.tokenizer.as_ref()?;
        let text = tokenizer.decode(&[id]).ok().filter(|text| !text.is_empty());
        text.or_else(|| tokenizer.token(id))
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of configuration and weights.
fn digest(dir: &Path) -> Result<String> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let files = model_files(dir)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let mut file = File::open(&path).map_err(read(&path))?;
        loop {
            match file.read(&mut buffer).map_err(read(&path))? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
    }
    let digits = hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(digits)
}
