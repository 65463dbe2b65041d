use std::{
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::{Error, Result};

/// Lists of token ids in a temporary file without a name: 12 bytes of each are in memory.
///
/// ```
/// use opd_data::TokenSpool;
///
/// let mut lists = TokenSpool::new()?;
/// lists.push(&[5, 6])?;
/// lists.push(&[])?;
/// let lists = lists.finish()?;
/// assert_eq!(lists.get(0)?, Some(vec![5, 6]));
/// assert_eq!((lists.get(1)?, lists.get(2)?), (Some(vec![]), None));
/// # Ok::<(), opd_data::Error>(())
/// ```
#[derive(Debug)]
pub struct TokenSpool {
    /// Where each list starts, in ids, and how many it has.
    places: Vec<(u64, u32)>,
    file: Mutex<BufWriter<File>>,
}

impl TokenSpool {
    /// Without lists.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if no temporary file can be made.
    pub fn new() -> Result<Self> {
        let file = tempfile::tempfile().map_err(io)?;
        Ok(Self { places: Vec::new(), file: Mutex::new(BufWriter::new(file)) })
    }

    /// Adds a list behind the others.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], for example if the disk is full.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        let end = self.places.last().map_or(0, |(start, n)| start + u64::from(*n));
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            file.write_all(&id.to_le_bytes()).map_err(io)?;
        }
        self.places.push((end, ids.len() as u32));
        Ok(())
    }

    /// Writes out what is still in memory; lists may then be read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<Self> {
        self.file.get_mut().unwrap_or_else(PoisonError::into_inner).flush().map_err(io)?;
        Ok(self)
    }

    /// A list; `None` beyond the last.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn get(&self, index: usize) -> Result<Option<Vec<u32>>> {
        let Some(&(start, n)) = self.places.get(index) else { return Ok(None) };
        let mut bytes = vec![0; 4 * n as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = file.get_mut();
        file.seek(SeekFrom::Start(4 * start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(io)?;
        let ids = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id));
        Ok(Some(ids.collect()))
    }
}

fn io(source: std::io::Error) -> Error {
    Error::Io { path: PathBuf::from("temporary file of token ids"), source }
}
