use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
};

use crate::run::{Error, Result};

/// Name of the lock file in a run's directory.
pub(super) const NAME: &str = "lock";

/// An advisory lock on a run's directory; the system releases it with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Locks `dir`, creating its lock file.
    ///
    /// On a file system without locks it warns and goes on.
    pub(super) fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(|source| Error::writing(&path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { path: dir.to_owned(), pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "the file system of `{}` has no locks: see to it that only one process uses it",
                    dir.display()
                );
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::Io { action: "lock", path, source });
            }
        }
        write_pid(&mut file).map_err(|source| Error::writing(&path, source))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    /// Closing the file would not do: a child that is being started holds it too, until it has
    /// become another program.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!("the lock of a run could not be given up: {error}");
        }
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_though_a_child_still_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let inherited = lock.file.try_clone().unwrap();
        Lock::acquire(dir.path()).unwrap_err();
        drop(lock);
        Lock::acquire(dir.path()).unwrap();
        drop(inherited);
    }
}
