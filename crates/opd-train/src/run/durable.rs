use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::run::{Error, Result};

/// What the name of everything unfinished starts with.
const ASIDE: &str = ".tmp-";

/// Writes a file aside, syncs it, and renames it to `path`: all of it or nothing.
///
/// Replaces a file of that name. The parent directory must exist.
///
/// # Errors
///
/// [`Error::Full`], [`Error::NotWritable`] or [`Error::Io`]; `path` is then as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = aside(path);
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_dir(parent(path))
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&aside);
        Error::writing(path, source)
    })
}

/// Where `path` is written before it gets its name.
pub(super) fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{ASIDE}{name}-{}", std::process::id()))
}

/// Removes what a killed process left unfinished in `dir`.
///
/// Only for a directory that this process has locked.
pub(super) fn remove_unfinished(dir: &Path) -> Result<()> {
    for name in names(dir)?.iter().filter(|name| name.starts_with(ASIDE)) {
        remove(&dir.join(name))?;
    }
    Ok(())
}

/// Whether `name` is that of something unfinished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with(ASIDE)
}

/// Names in `dir`, sorted.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(dir)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = read().map_err(|source| Error::reading(dir, source))?;
    names.sort_unstable();
    Ok(names)
}

/// Removes a file or a directory with all that is in it.
pub(super) fn remove(path: &Path) -> Result<()> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|source| Error::writing(path, source))
}

/// Makes the names in `dir` survive a loss of power.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// The directory that `path` lies in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
