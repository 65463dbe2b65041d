mod index;
mod safetensors_file;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{WithDType, quantized::GgmlDType};

#[cfg(feature = "hub")]
pub(crate) use self::index::files as shards;
use self::safetensors_file::SafetensorsFile;
pub(crate) use self::safetensors_file::widen;
use crate::{Error, Result, files::gguf_file, gguf::Gguf};

/// The weight files of a model, read tensor by tensor under their Hugging Face names.
pub(crate) struct WeightFiles {
    dir: PathBuf,
    files: Vec<WeightFile>,
    tensors: HashMap<String, Stored>,
    used: BTreeSet<String>,
}

enum WeightFile {
    Safetensors(SafetensorsFile),
    Gguf(Gguf),
}

/// Where a tensor lies.
struct Stored {
    /// Index of the file.
    file: usize,
    /// Its name there.
    name: String,
}

impl WeightFile {
    fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// Hugging Face names, and names in the file.
    fn names(&self) -> Vec<(String, String)> {
        match self {
            Self::Safetensors(file) => {
                file.names().into_iter().map(|name| (name.clone(), name)).collect()
            }
            Self::Gguf(file) => file.names(),
        }
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            Self::Safetensors(file) => file.shape(name),
            Self::Gguf(file) => file.shape(name),
        }
    }

    fn append<T: WithDType>(&self, name: &str, out: &mut Vec<T>) -> Result<()> {
        match self {
            Self::Safetensors(file) => file.append(name, out),
            Self::Gguf(file) => file.append(name, out),
        }
    }

    fn encoding(&self, name: &str) -> Option<GgmlDType> {
        match self {
            Self::Safetensors(file) => file.encoding(name),
            Self::Gguf(file) => file.encoding(name),
        }
    }

    fn append_encoded(&self, name: &str, out: &mut Vec<u8>) -> Result<bool> {
        match self {
            Self::Safetensors(file) => file.append_encoded(name, out),
            Self::Gguf(file) => file.append_encoded(name, out),
        }
    }
}

impl WeightFiles {
    /// Opens the weights of a model directory or GGUF file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        match gguf_file(path)? {
            Some(file) => Ok(Self::of(path, vec![WeightFile::Gguf(Gguf::open(&file)?)])),
            None => Self::safetensors(path, index::files(path)?),
        }
    }

    /// Opens one safetensors file.
    pub(crate) fn single(path: &Path) -> Result<Self> {
        Self::safetensors(path, vec![path.to_owned()])
    }

    fn safetensors(dir: &Path, paths: Vec<PathBuf>) -> Result<Self> {
        let open = |path| Ok(WeightFile::Safetensors(SafetensorsFile::open(path)?));
        let files = paths.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        Ok(Self::of(dir, files))
    }

    fn of(dir: &Path, files: Vec<WeightFile>) -> Self {
        let mut tensors = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            let names = file.names().into_iter();
            tensors.extend(names.map(|(outer, name)| (outer, Stored { file: i, name })));
        }
        Self { dir: dir.into(), files, tensors, used: BTreeSet::new() }
    }

    /// Passes if a tensor is there and has this shape: what is allocated for it is then bounded
    /// by the file.
    pub(crate) fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let stored = self.tensors.get(name).map(|stored| (&self.files[stored.file], stored));
        let found = stored.and_then(|(file, stored)| Some((file, file.shape(&stored.name)?)));
        let Some((file, got)) = found else {
            let (path, name, expected) = (self.dir.clone(), name.to_owned(), expected.to_vec());
            return Err(Error::MissingTensor { path, name, expected });
        };
        match got == expected {
            true => Ok(()),
            false => {
                let (path, name) = (file.path().to_owned(), name.to_owned());
                Err(Error::TensorShape { path, name, expected: expected.to_vec(), got })
            }
        }
    }

    /// Appends the values of a tensor that [`Self::check`] has passed.
    pub(crate) fn append<T: WithDType>(&mut self, name: &str, out: &mut Vec<T>) -> Result<()> {
        let (file, name) = self.found(name)?;
        file.append(name, out)
    }

    /// How the values of a matrix are encoded, where that takes less than f32.
    pub(crate) fn encoding(&self, name: &str) -> Option<GgmlDType> {
        let stored = self.tensors.get(name)?;
        self.files[stored.file].encoding(&stored.name)
    }

    /// Appends the rows of a matrix as the file encodes them; `false` if there is no room.
    pub(crate) fn append_encoded(&mut self, name: &str, out: &mut Vec<u8>) -> Result<bool> {
        let (file, name) = self.found(name)?;
        file.append_encoded(name, out)
    }

    /// The file of a tensor and its name there; it is used from now on.
    fn found(&mut self, name: &str) -> Result<(&WeightFile, &str)> {
        let Some(stored) = self.tensors.get(name) else {
            let (path, name) = (self.dir.clone(), name.to_owned());
            return Err(Error::MissingTensor { path, name, expected: Vec::new() });
        };
        self.used.insert(name.to_owned());
        Ok((&self.files[stored.file], &stored.name))
    }

    /// Bytes of all tensors in memory where matrices stay as the files have them.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        let of = |(name, stored): (&String, &Stored)| {
            let shape = self.files[stored.file].shape(&stored.name).unwrap_or_default();
            let values = shape.iter().map(|&n| n as u64).product::<u64>();
            match self.encoding(name).filter(|_| shape.len() == 2) {
                None => 4 * values,
                Some(kind) => values / kind.block_size() as u64 * kind.type_size() as u64,
            }
        };
        self.tensors.iter().map(of).sum()
    }

    /// A tensor that was neither read nor is on the list, with its file.
    pub(crate) fn first_unused(&self, ignored: impl Fn(&str) -> bool) -> Option<(PathBuf, String)> {
        let mut names: Vec<&String> = self.tensors.keys().collect();
        names.sort();
        let name = names.into_iter().find(|name| !self.used.contains(*name) && !ignored(name))?;
        Some((self.files[self.tensors[name].file].path().to_owned(), name.clone()))
    }
}
