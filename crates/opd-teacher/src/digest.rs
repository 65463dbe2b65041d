use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// SHA-256 of a model directory's weights and configuration, in hexadecimal.
pub(crate) fn digest(dir: &Path) -> io::Result<String> {
    let counts = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "safetensors") || path.ends_with("config.json")
    };
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(counts);
    files.sort_unstable();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let mut file = File::open(&path)?;
        hash.update(file.metadata()?.len().to_le_bytes());
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
