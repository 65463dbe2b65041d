mod index;
mod safetensors_file;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use candle_core::WithDType;

use self::safetensors_file::SafetensorsFile;
use crate::{Error, Result};

/// The weight files of a model, read tensor by tensor.
pub(crate) struct WeightFiles {
    dir: PathBuf,
    files: Vec<SafetensorsFile>,
    file_of: HashMap<String, usize>,
    used: BTreeSet<String>,
}

impl WeightFiles {
    /// Opens the weights of a model directory.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        Self::of(dir, index::files(dir)?)
    }

    /// Opens one file.
    pub(crate) fn single(path: &Path) -> Result<Self> {
        Self::of(path, vec![path.to_owned()])
    }

    fn of(dir: &Path, names: Vec<PathBuf>) -> Result<Self> {
        let files = names.into_iter().map(SafetensorsFile::open).collect::<Result<Vec<_>>>()?;
        let mut file_of = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            file_of.extend(file.names().into_iter().map(|name| (name, i)));
        }
        Ok(Self { dir: dir.into(), files, file_of, used: BTreeSet::new() })
    }

    /// Passes if a tensor is there and has this shape: what is allocated for it is then bounded
    /// by the file.
    pub(crate) fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let file = self.file_of.get(name).map(|&i| &self.files[i]);
        let Some((file, got)) = file.and_then(|file| Some((file, file.shape(name)?))) else {
            let (path, name, expected) = (self.dir.clone(), name.to_owned(), expected.to_vec());
            return Err(Error::MissingTensor { path, name, expected });
        };
        match got == expected {
            true => Ok(()),
            false => {
                let (path, name) = (file.path().clone(), name.to_owned());
                Err(Error::TensorShape { path, name, expected: expected.to_vec(), got })
            }
        }
    }

    /// Appends the values of a tensor that [`Self::check`] has passed.
    pub(crate) fn append<T: WithDType>(&mut self, name: &str, out: &mut Vec<T>) -> Result<()> {
        let Some(&file) = self.file_of.get(name) else {
            let (path, name) = (self.dir.clone(), name.to_owned());
            return Err(Error::MissingTensor { path, name, expected: Vec::new() });
        };
        self.used.insert(name.to_owned());
        self.files[file].append(name, out)
    }

    /// A tensor that was neither read nor is on the list, with its file.
    pub(crate) fn first_unused(&self, ignored: impl Fn(&str) -> bool) -> Option<(PathBuf, String)> {
        let mut names: Vec<_> = self.file_of.iter().collect();
        names.sort();
        let unused = |name: &str| !self.used.contains(name) && !ignored(name);
        let (name, file) = names.into_iter().find(|(name, _)| unused(name))?;
        Some((self.files[*file].path().clone(), name.clone()))
    }
}
