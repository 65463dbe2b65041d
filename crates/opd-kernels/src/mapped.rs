use std::{
    fs::File,
    io,
    ops::{Deref, Range},
    path::Path,
};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

/// The bytes of a file, read by the system where they are touched.
///
/// Nothing is copied, and pages that memory is short of are dropped and read again: weights can
/// be converted straight from the file into the tensors that hold them.
///
/// The file must not be cut short while it is mapped: a byte past its new end kills the process.
/// Programs that replace a file by renaming another over it, as model downloads and our own
/// saving do, are safe.
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps a whole file; an empty one has no bytes.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or mapped.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is private and never written through. Another process may change the
        // bytes; every reader treats them as untrusted numbers, of which any pattern is valid.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }

    /// Says that these bytes are not read again soon: their pages stop counting as memory of this
    /// process. A later read fetches them again.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.0
            && range.end <= map.len()
        {
            // SAFETY: pages of a map of a file that is never written through hold what the file
            // holds, whether they were dropped or not.
            let advised = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
            // It is a hint.
            drop(advised);
        }
        #[cfg(not(unix))]
        drop(range);
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::MappedFile;

    #[test]
    fn bytes_are_those_of_the_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mapped = MappedFile::open(path).unwrap();
        let content = std::fs::read(path).unwrap();
        assert_eq!(&*mapped, content);
        for range in [0..content.len(), 3..7, 5..5, 0..usize::MAX] {
            mapped.release(range);
            assert_eq!(&*mapped, content);
        }
        let kind = MappedFile::open(env!("CARGO_MANIFEST_DIR")).unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::InvalidInput);
        assert!(MappedFile::open("nowhere").is_err());
        assert!(MappedFile::open("/dev/null").is_err());
    }
}
