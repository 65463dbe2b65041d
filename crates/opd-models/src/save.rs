use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{self, File},
    path::Path,
};

use candle_core::{DType, Tensor};
use safetensors::{Dtype, tensor::View};
use serde_json::Value;

use crate::{CausalLm, Error, Parameters, Result, files::ModelFiles};

/// Files that travel with a model beside its config and weights.
pub(crate) const COMPANIONS: [&str; 7] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
];

impl CausalLm {
    /// Writes a Hugging Face directory: config, weights in f32, tokenizer files.
    ///
    /// `dir` is made if it does not exist. Files are written one after the other and synced;
    /// for a directory that appears whole or not at all, write aside and rename.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        fs::create_dir_all(dir).map_err(Error::io(dir, "make the directory"))?;
        self.save_weights(&dir.join("model.safetensors"))?;
        let mut json = self.config().json.clone();
        for key in ["dtype", "torch_dtype"] {
            if json.contains_key(key) {
                json.insert(key.into(), "float32".into());
            }
        }
        let text = serde_json::to_string_pretty(&Value::Object(json)).map_err(|error| {
            Error::Config { path: dir.join("config.json"), what: error.to_string() }
        })?;
        let path = dir.join("config.json");
        fs::write(&path, text + "\n").map_err(Error::io(&path, "write"))?;
        sync(&path)?;
        let files = ModelFiles::open(self.source())?;
        for name in COMPANIONS {
            let to = dir.join(name);
            if let Some((from, content)) = files.read(name)?
                && fs::canonicalize(&from).ok() != fs::canonicalize(&to).ok()
            {
                fs::write(&to, content).map_err(Error::io(&to, "write"))?;
                sync(&to)?;
            }
        }
        sync(dir)
    }

    /// Writes all weights, under their Hugging Face names, as one safetensors file in f32, and
    /// syncs it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn save_weights(&self, path: &Path) -> Result<()> {
        save_parameters(self.parameters(), path)
    }
}

/// Writes tensors under their Hugging Face names as one safetensors file in f32, and syncs it.
pub(crate) fn save_parameters(parameters: &Parameters, path: &Path) -> Result<()> {
    let mut tensors = Vec::new();
    for parameter in parameters.iter() {
        let values = parameter.tensor();
        for (name, part) in parameter.split(&values) {
            tensors.push((name.to_owned(), Bytes::new(&part?)?));
        }
    }
    write_safetensors(path, tensors)?;
    sync(path)
}

/// Waits until a file or directory is on the disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path, "write"))
}

fn write_safetensors(path: &Path, tensors: Vec<(String, Bytes)>) -> Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => {
            Error::Io { path: path.into(), action: "write", source }
        }
        other => Error::Weights { path: path.into(), what: other.to_string() },
    })
}

/// A tensor's values in f32, little-endian.
struct Bytes {
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Bytes {
    fn new(tensor: &Tensor) -> Result<Self> {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(Self { shape: tensor.dims().to_vec(), data })
    }
}

impl View for Bytes {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
