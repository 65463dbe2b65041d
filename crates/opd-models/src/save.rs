use std::{cell::RefCell, fs, fs::File, path::Path};

use candle_core::Tensor;
use serde_json::{Value, json};

use crate::{
    CausalLm, Error, Parameters, Result,
    encoded::Encoded,
    files::ModelFiles,
    parameters::Parameter,
    safetensors_file::{Entry, write_safetensors},
    shards::{self, Shard},
};

/// Bytes of one weight file, unless told otherwise: that of `save_pretrained`, 5 GB.
pub const SHARD_BYTES: u64 = 5_000_000_000;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

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

/// A place among the weights and the tensor that was made for it.
type Last = RefCell<Option<(usize, Tensor)>>;

/// The tensor of a place among the weights.
type Values<'a> = &'a dyn Fn(usize, &Parameter) -> Result<Tensor>;

impl CausalLm {
    /// Writes a Hugging Face directory: config, weights in f32 with adapters merged into them,
    /// tokenizer files. Weights of more than [`SHARD_BYTES`] are cut into several files.
    ///
    /// A directory that does not exist appears whole or not at all. In one that exists each file
    /// is replaced whole, one after the other. Tensors are written one by one: what this takes
    /// of memory is twice the largest.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.save_sharded(dir, SHARD_BYTES)
    }

    /// As [`Self::save`], with weight files of at most `shard_bytes` of tensors each (or one
    /// tensor that is larger).
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn save_sharded(&self, dir: impl AsRef<Path>, shard_bytes: u64) -> Result<()> {
        let dir = dir.as_ref();
        if dir.exists() {
            return self.write_files(dir, shard_bytes);
        }
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let aside = dir.with_file_name(format!(".tmp-{name}-{}", std::process::id()));
        fs::create_dir_all(&aside).map_err(Error::io(dir, "make the directory"))?;
        let written = self.write_files(&aside, shard_bytes);
        let moved = written
            .and_then(|()| fs::rename(&aside, dir).map_err(Error::io(dir, "make the directory")))
            .and_then(|()| sync(above(dir)));
        if moved.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&aside);
        }
        moved
    }

    fn write_files(&self, dir: &Path, shard_bytes: u64) -> Result<()> {
        self.write_weights(dir, shard_bytes)?;
        let mut json = self.config().json.clone();
        for key in ["dtype", "torch_dtype"] {
            if json.contains_key(key) {
                json.insert(key.into(), "float32".into());
            }
        }
        write_synced(&dir.join("config.json"), format!("{:#}\n", Value::Object(json)))?;
        let files = ModelFiles::open(self.source())?;
        for name in COMPANIONS {
            let to = dir.join(name);
            if let Some((from, content)) = files.read(name)?
                && fs::canonicalize(&from).ok() != fs::canonicalize(&to).ok()
            {
                write_synced(&to, content)?;
            }
        }
        sync(dir)
    }

    /// Writes all weights, with adapters merged into them, as one safetensors file in f32.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn save_weights(&self, path: &Path) -> Result<()> {
        let last = RefCell::new(None);
        let values = |place: usize, parameter: &Parameter| self.values(&last, place, parameter);
        write_safetensors(path, self.entries(&values))
    }

    fn entries<'a>(&'a self, values: Values<'a>) -> Vec<Entry<'a>> {
        let weights = self.weights.iter().enumerate();
        let weights = weights.flat_map(|(place, parameter)| entries_of(parameter, place, values));
        weights.chain(self.encoded().flat_map(decoded_entries)).collect()
    }

    /// A weight with its adapters. Parts of one matrix follow each other: `last` keeps it for
    /// the next of them.
    fn values(&self, last: &Last, place: usize, parameter: &Parameter) -> Result<Tensor> {
        if let Some((held, tensor)) = &*last.borrow()
            && *held == place
        {
            return Ok(tensor.clone());
        }
        let tensor = self.merged(place).unwrap_or_else(|| Ok(parameter.tensor()))?;
        *last.borrow_mut() = Some((place, tensor.clone()));
        Ok(tensor)
    }

    /// The weight files and, where there are several, their index; files of an earlier form go.
    fn write_weights(&self, dir: &Path, shard_bytes: u64) -> Result<()> {
        let last = RefCell::new(None);
        let values = |place: usize, parameter: &Parameter| self.values(&last, place, parameter);
        let shards = shards::cut(self.entries(&values), shard_bytes);
        match shards.len() {
            1 => {
                for Shard { entries, .. } in shards {
                    write_safetensors(&dir.join(SINGLE), entries)?;
                }
                remove_others(dir, |name| name == SINGLE)
            }
            _ => {
                let total: u64 = shards.iter().map(Shard::bytes).sum();
                let mut map = serde_json::Map::new();
                let mut names = Vec::with_capacity(shards.len());
                for Shard { name, entries } in shards {
                    map.extend(entries.iter().map(|e| (e.name.clone(), name.as_str().into())));
                    write_safetensors(&dir.join(&name), entries)?;
                    names.push(name);
                }
                let index = json!({"metadata": {"total_size": total}, "weight_map": map});
                write_synced(&dir.join(INDEX), format!("{index:#}\n"))?;
                remove_others(dir, |name| name == INDEX || names.iter().any(|n| n == name))
            }
        }
    }
}

/// The tensors of the Hugging Face layout that a parameter holds.
fn entries_of<'a>(parameter: &'a Parameter, place: usize, values: Values<'a>) -> Vec<Entry<'a>> {
    let columns = parameter.var().dims().get(1).copied();
    let mut start = 0;
    let parts = parameter.parts().iter().map(|(name, rows)| {
        let (from, rows) = (start, *rows);
        start += rows;
        let part = move || Ok(values(place, parameter)?.narrow(0, from, rows)?);
        let shape = std::iter::once(rows).chain(columns).collect();
        Entry { name: name.clone(), shape, values: Box::new(part) }
    });
    parts.collect()
}

/// The tensors of a matrix that is held for reading alone, with its adapters.
fn decoded_entries(of: Encoded<'_>) -> Vec<Entry<'_>> {
    let Encoded { parts, matrix, adapter } = of;
    let mut start = 0;
    let parts = parts.into_iter().map(|(name, rows)| {
        let (from, columns) = (start, matrix.dims()[1]);
        start += rows;
        let values = move || {
            let whole = matrix.to_tensor()?;
            let whole = adapter.map_or(Ok(whole.clone()), |adapter| adapter.merged(&whole))?;
            Ok(whole.narrow(0, from, rows)?)
        };
        Entry { name: name.to_owned(), shape: vec![rows, columns], values: Box::new(values) }
    });
    parts.collect()
}

/// Writes tensors under their Hugging Face names as one safetensors file in f32, and syncs it.
pub(crate) fn save_parameters(parameters: &Parameters, path: &Path) -> Result<()> {
    let plain = |_: usize, parameter: &Parameter| Ok(parameter.tensor());
    let entries = parameters.iter().flat_map(|parameter| entries_of(parameter, 0, &plain));
    write_safetensors(path, entries.collect())
}

/// Removes weight files of an earlier save that are not among those that are `kept`.
fn remove_others(dir: &Path, kept: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir, "read"))? {
        let entry = entry.map_err(Error::io(dir, "read"))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !kept(name)) else { continue };
        if name == SINGLE || name == INDEX || shards::is_name(name) {
            fs::remove_file(entry.path()).map_err(Error::io(entry.path(), "remove"))?;
        }
    }
    Ok(())
}

/// Replaces a file by `content`, whole or not at all.
pub(crate) fn write_synced(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    replace(path, |aside| fs::write(aside, content).map_err(Error::io(path, "write")))
}

/// Writes a file under another name, syncs it, and moves it to its place.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".tmp-{name}"));
    let moved = write(&aside).and_then(|()| {
        let synced = File::open(&aside).and_then(|file| file.sync_all());
        synced.and_then(|()| fs::rename(&aside, path)).map_err(Error::io(path, "write"))
    });
    if moved.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&aside);
    }
    moved
}

/// The directory that holds another.
fn above(dir: &Path) -> &Path {
    dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Waits until a file or directory is on the disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io(path, "write"))
}
