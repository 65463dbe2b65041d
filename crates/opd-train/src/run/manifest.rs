use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// Name of the manifest in a checkpoint.
pub(super) const NAME: &str = "manifest.json";

/// What a checkpoint holds, so that damage to it is seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) step: u64,
    pub(super) score: Option<f64>,
    pub(super) files: Vec<Entry>,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Path within the checkpoint, parts joined by `/`.
    path: String,
    bytes: u64,
    crc32c: u32,
}

/// The manifest as it is stored: with a checksum of its own.
#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: Manifest,
    crc32c: u32,
}

impl Manifest {
    /// Syncs every file and directory under `dir` and notes its files.
    pub(super) fn of(dir: &Path, step: u64, score: Option<f64>) -> io::Result<Self> {
        let mut files = Vec::new();
        collect(dir, "", &mut files)?;
        Ok(Self { step, score, files })
    }

    /// The text of `manifest.json`.
    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        let crc32c = self.checksum()?;
        let mut json = serde_json::to_string_pretty(&Sealed { manifest: self.clone(), crc32c })?;
        json.push('\n');
        Ok(json)
    }

    /// The manifest of the checkpoint in `dir`, or what is wrong with it.
    pub(super) fn read(dir: &Path) -> Result<Self, String> {
        let json = fs::read(dir.join(NAME)).map_err(|error| format!("`{NAME}`: {error}"))?;
        let sealed: Sealed =
            serde_json::from_slice(&json).map_err(|error| format!("`{NAME}`: {error}"))?;
        let got = sealed.manifest.checksum().map_err(|error| format!("`{NAME}`: {error}"))?;
        if got != sealed.crc32c {
            let expected = sealed.crc32c;
            return Err(format!("`{NAME}` has checksum {got:08x} where {expected:08x} is noted"));
        }
        Ok(sealed.manifest)
    }

    /// Compares every file in `dir` with what is noted, or says which differs.
    pub(super) fn verify(&self, dir: &Path) -> Result<(), String> {
        for Entry { path, bytes, crc32c } in &self.files {
            let (got_bytes, got_crc32c) = File::open(dir.join(path))
                .and_then(|mut file| checksum(&mut file))
                .map_err(|error| format!("`{path}`: {error}"))?;
            if got_bytes != *bytes {
                return Err(format!("`{path}` has {got_bytes} bytes, {bytes} were saved"));
            }
            if got_crc32c != *crc32c {
                return Err(format!(
                    "`{path}` has checksum {got_crc32c:08x}, {crc32c:08x} was saved"
                ));
            }
        }
        Ok(())
    }

    fn checksum(&self) -> serde_json::Result<u32> {
        Ok(crc32c::crc32c(&serde_json::to_vec(self)?))
    }
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<Entry>) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| unfit(&entry.path(), "its name is no UTF-8"))?;
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            let mut file = File::open(entry.path())?;
            let (bytes, crc32c) = checksum(&mut file)?;
            file.sync_all()?;
            files.push(Entry { path, bytes, crc32c });
        } else {
            return Err(unfit(&entry.path(), "it is neither file nor directory"));
        }
    }
    super::durable::sync_dir(dir)
}

fn unfit(path: &Path, reason: &str) -> io::Error {
    io::Error::other(format!("`{}` cannot be part of a checkpoint: {reason}", path.display()))
}

fn checksum(file: &mut File) -> io::Result<(u64, u32)> {
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut crc) = (0, 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, crc)),
            n => {
                bytes += n as u64;
                crc = crc32c::crc32c_append(crc, &buffer[..n]);
            }
        }
    }
}
