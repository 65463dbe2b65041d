use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
};

use crate::{Error, Result};

/// Puts `bytes` at `path`: written aside, synced, renamed.
///
/// A file that holds these bytes already is left alone, so that writing twice, or from two
/// processes at once, ends in the same tree.
///
/// # Errors
///
/// [`Error::Occupied`] if the file holds other bytes; [`Error::Io`] if the file system refuses.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => return Err(Error::Occupied { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", path)(error)),
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    }
    let aside = aside(path);
    let written = write_synced(&aside, bytes)
        .map_err(io_error("write", &aside))
        .and_then(|()| fs::rename(&aside, path).map_err(io_error("create", path)));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

/// A name beside `path` that no other process writes to.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".partial-{}", process::id()));
    path.with_file_name(name)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { action, path, source }
}
