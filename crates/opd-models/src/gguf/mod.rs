mod check;
mod config;
mod names;
mod tensors;
mod tokenizer;

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use candle_core::quantized::gguf_file::{Content, Value};
use opd_kernels::MappedFile;
use serde_json::json;

use crate::{Architecture, Error, Result};

/// A model in one GGUF file, checked and mapped.
pub(crate) struct Gguf {
    path: PathBuf,
    bytes: MappedFile,
    content: Content,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = MappedFile::open(path).map_err(Error::io(path, "read"))?;
        let bad = |what: String| Error::Weights { path: path.into(), what };
        check::check(&bytes).map_err(bad)?;
        let content = Content::read(&mut Cursor::new(&*bytes))
            .map_err(|error| bad(format!("damaged header: {error}")))?;
        Ok(Self { path: path.into(), bytes, content })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a Hugging Face directory of this model would hold under a name, or nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Gguf`] naming the entry of the metadata.
    pub(crate) fn companion(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let json = match name {
            "config.json" => self.config()?.into(),
            "tokenizer.json" => match self.tokenizer()? {
                Some(tokenizer) => tokenizer,
                None => return Ok(None),
            },
            "tokenizer_config.json" => self.tokenizer_config(),
            "generation_config.json" => json!({ "eos_token_id": self.end_ids()? }),
            _ => return Ok(None),
        };
        Ok(Some(json.to_string().into_bytes()))
    }

    fn bad<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::Gguf { path: self.path.clone(), what: what.into() })
    }

    /// The architecture that `general.architecture` names.
    fn architecture(&self) -> Result<Architecture> {
        let name = self.string("general.architecture").unwrap_or("none");
        let found = Architecture::ALL.into_iter().find(|a| a.family().gguf == Some(name));
        let Some(architecture) = found else {
            let known = Architecture::ALL.into_iter().filter_map(|a| a.family().gguf);
            return self.bad(format!(
                "general.architecture is `{name}`; supported: {}",
                known.collect::<Vec<_>>().join(", ")
            ));
        };
        Ok(architecture)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    fn string(&self, key: &str) -> Option<&str> {
        self.value(key)?.to_string().ok().map(String::as_str)
    }

    /// A whole number that is not negative.
    fn whole(&self, key: &str) -> Option<u64> {
        whole(self.value(key)?)
    }

    /// A number, as short as its precision has it: 1e-5 and not 9.99999974e-6.
    fn number(&self, key: &str) -> Option<f64> {
        match self.value(key)? {
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(*number),
            _ => self.whole(key).map(|number| number as f64),
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.to_bool().ok()
    }

    fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let list = value.to_vec().ok().map(|values| {
            values.iter().map(|value| value.to_string().ok().map(String::as_str)).collect()
        });
        match list.flatten() {
            Some(strings) => Ok(Some(strings)),
            None => self.bad(format!("{key} must be a list of strings")),
        }
    }

    /// The ids that end a response: the end of a text and that of a turn.
    fn end_ids(&self) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            let id = self.whole(key).filter(|&id| id <= u64::from(u32::MAX));
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }
}

/// A whole number that is not negative, of any width.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::I8(n) => (*n).try_into().ok(),
        Value::I16(n) => (*n).try_into().ok(),
        Value::I32(n) => (*n).try_into().ok(),
        Value::I64(n) => (*n).try_into().ok(),
        other => other.to_u64().ok(),
    }
}
