//! Where rows lie.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{Error, Result};

/// A file whose rows are read by their place: a JSONL file itself, or the rows of another as
/// JSON in a temporary file without a name.
#[derive(Debug)]
pub(crate) struct Spool {
    /// What the user named.
    pub(crate) path: PathBuf,
    file: Mutex<File>,
}

/// A row within its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the file.
    pub(crate) file: u32,
    /// Bytes of the row.
    pub(crate) length: u32,
    /// Where it starts.
    pub(crate) offset: u64,
    /// Line or row, from 1.
    pub(crate) row: u64,
}

impl Spool {
    pub(crate) fn new(path: &Path, file: File) -> Self {
        Self { path: path.to_owned(), file: Mutex::new(file) }
    }

    /// The text of a row.
    pub(crate) fn read(&self, place: Place) -> Result<String> {
        let mut bytes = vec![0; place.length as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(place.offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| self.changed(place, error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| self.changed(place, error.to_string()))
    }

    pub(crate) fn changed(&self, place: Place, what: String) -> Error {
        Error::Changed { path: self.path.clone(), row: place.row, what }
    }
}
