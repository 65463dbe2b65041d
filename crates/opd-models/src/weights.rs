use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::Metadata};
use serde::Deserialize;

use crate::{Error, Result};

/// Longest header that is read; the largest published checkpoints have a few MB.
const LONGEST_HEADER: u64 = 100 << 20;

/// The safetensors files of a model directory, read tensor by tensor.
pub(crate) struct WeightFiles {
    dir: PathBuf,
    files: Vec<WeightFile>,
    file_of: HashMap<String, usize>,
    used: BTreeSet<String>,
}

struct WeightFile {
    path: PathBuf,
    metadata: Metadata,
    data_start: u64,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or the files of `model.safetensors.index.json`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        let names = if index.exists() && !single.exists() {
            let text = std::fs::read(&index).map_err(Error::io(&index, "read"))?;
            let parsed: Index = serde_json::from_slice(&text)
                .map_err(|error| Error::Config { path: index.clone(), what: error.to_string() })?;
            let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
            if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1)
            {
                let what = format!("weight_map names `{name}`, which is no plain file name");
                return Err(Error::Config { path: index, what });
            }
            names.into_iter().map(|name| dir.join(name)).collect()
        } else {
            vec![single]
        };
        Self::of(dir, names)
    }

    /// Opens one file.
    pub(crate) fn single(path: &Path) -> Result<Self> {
        Self::of(path, vec![path.to_owned()])
    }

    fn of(dir: &Path, names: Vec<PathBuf>) -> Result<Self> {
        let files = names.into_iter().map(WeightFile::open).collect::<Result<Vec<_>>>()?;
        let mut file_of = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            file_of.extend(file.metadata.offset_keys().into_iter().map(|name| (name, i)));
        }
        Ok(Self { dir: dir.into(), files, file_of, used: BTreeSet::new() })
    }

    /// Reads a tensor that must have this shape, converted to `dtype`.
    pub(crate) fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let Some(&file) = self.file_of.get(name) else {
            let (path, name, expected) = (self.dir.clone(), name.to_owned(), shape.to_vec());
            return Err(Error::MissingTensor { path, name, expected });
        };
        self.used.insert(name.to_owned());
        self.files[file].tensor(name, shape, dtype, device)
    }

    /// A tensor that was neither read nor is on the list, with its file.
    pub(crate) fn first_unused(&self, ignored: impl Fn(&str) -> bool) -> Option<(PathBuf, String)> {
        let mut names: Vec<_> = self.file_of.iter().collect();
        names.sort();
        let unused = |name: &str| !self.used.contains(name) && !ignored(name);
        let (name, file) = names.into_iter().find(|(name, _)| unused(name))?;
        Some((self.files[*file].path.clone(), name.clone()))
    }
}

impl WeightFile {
    fn open(path: PathBuf) -> Result<Self> {
        let bad = |what: String| Error::Weights { path: path.clone(), what };
        let mut file = File::open(&path).map_err(Error::io(&path, "read"))?;
        let size = file.metadata().map_err(Error::io(&path, "read"))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| bad(format!("truncated: {size} bytes")))?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER || length.saturating_add(8) > size {
            return Err(bad(format!(
                "truncated or no safetensors file: a header of {length} bytes in a file of {size}"
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(Error::io(&path, "read"))?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| bad(format!("damaged header: {error}")))?;
        let expected = (metadata.data_len() as u64).saturating_add(8 + length);
        if size != expected {
            return Err(bad(format!("truncated: expected {expected} bytes, got {size}")));
        }
        Ok(Self { path, metadata, data_start: 8 + length })
    }

    fn tensor(&self, name: &str, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(info) = self.metadata.info(name) else {
            let (path, name, expected) = (self.path.clone(), name.to_owned(), shape.to_vec());
            return Err(Error::MissingTensor { path, name, expected });
        };
        if info.shape != shape {
            return Err(Error::TensorShape {
                path: self.path.clone(),
                name: name.to_owned(),
                expected: shape.to_vec(),
                got: info.shape.clone(),
            });
        }
        let stored = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                let what =
                    format!("tensor `{name}` has dtype {other:?}; supported: F64, F32, F16, BF16");
                return Err(Error::Weights { path: self.path.clone(), what });
            }
        };
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = File::open(&self.path).map_err(Error::io(&self.path, "read"))?;
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(Error::io(&self.path, "read"))?;
        let tensor = Tensor::from_raw_buffer(&bytes, stored, shape, &Device::Cpu)?;
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }
}
