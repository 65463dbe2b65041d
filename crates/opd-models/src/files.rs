use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result, config::object_of, gguf::Gguf};

/// Longest file that is read whole; tokenizers with many merges have some 30 MB.
const LONGEST: u64 = 256 << 20;

/// The files of a model beside its weights: those of a Hugging Face directory, or what a GGUF
/// file says in their place.
pub(crate) struct ModelFiles {
    dir: PathBuf,
    gguf: Option<Gguf>,
}

impl ModelFiles {
    /// A directory, a GGUF file, or a directory that holds one GGUF file and no other weights.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Weights`] for a GGUF file that cannot be read;
    /// [`Error::Gguf`] for a directory with several of them and nothing else.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let gguf = gguf_file(path)?.map(|file| Gguf::open(&file)).transpose()?;
        let dir = match (&gguf, path.is_dir()) {
            (Some(gguf), false) => gguf.path().parent().unwrap_or(Path::new("")).to_owned(),
            _ => path.to_owned(),
        };
        Ok(Self { dir, gguf })
    }

    /// Content and place of a file, if it is there. One that lies in the directory goes before
    /// what a GGUF file says, but for the config, which must fit the file's weights.
    pub(crate) fn read(&self, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let path = self.dir.join(name);
        if let Some(gguf) = &self.gguf
            && (name == "config.json" || !path.is_file())
        {
            let content = gguf.companion(name)?;
            return Ok(content.map(|content| (gguf.path().to_owned(), content)));
        }
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, "read")(error)),
        };
        if length > LONGEST {
            let what = format!("{length} bytes; at most {LONGEST} are read");
            return Err(Error::Config { path, what });
        }
        let content = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        Ok(Some((path, content)))
    }

    /// A file that is one JSON object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<(PathBuf, Map<String, Value>)>> {
        let Some((path, content)) = self.read(name)? else { return Ok(None) };
        let object = object_of(&path, &content)?;
        Ok(Some((path, object)))
    }

    /// A file that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<(PathBuf, Map<String, Value>)> {
        match self.object(name)? {
            Some(found) => Ok(found),
            None => {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(Error::io(self.dir.join(name), "read")(missing))
            }
        }
    }

    /// Where a file of this name would be, for messages.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The GGUF file that a path stands for, if it does.
pub(crate) fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
    let is_gguf =
        |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    if !path.is_dir() {
        return Ok(is_gguf(path).then(|| path.to_owned()));
    }
    let entries = std::fs::read_dir(path).map_err(Error::io(path, "read"))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if found.iter().any(|file| {
        file.extension().is_some_and(|end| end == "safetensors") || file.ends_with("config.json")
    }) {
        return Ok(None);
    }
    found.retain(|file| is_gguf(file));
    found.sort();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        n => {
            let what = format!("{n} GGUF files; name the one that is meant");
            Err(Error::Gguf { path: path.into(), what })
        }
    }
}

/// The files that make a model what it is: configuration and weights, sorted; for digests.
///
/// # Errors
///
/// [`Error::Io`] naming the directory.
pub fn model_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    if let Some(file) = gguf_file(path)? {
        return Ok(vec![file]);
    }
    let entries = std::fs::read_dir(path).map_err(Error::io(path, "read"))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        file.extension().is_some_and(|end| end == "safetensors") || file.ends_with("config.json")
    });
    files.sort();
    Ok(files)
}

/// Whether a path names a model: a directory with `config.json`, a GGUF file, or a directory
/// that holds one.
pub fn is_model(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    path.join("config.json").is_file()
        || gguf_file(path).is_ok_and(|file| file.is_some_and(|file| file.is_file()))
}
