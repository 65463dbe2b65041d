use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use opd_models::model_files;
use sha2::{Digest, Sha256};

/// SHA-256 of a model's weights and configuration, in hexadecimal.
pub(crate) fn digest(model: &Path) -> io::Result<String> {
    let files = model_files(model).map_err(io::Error::other)?;
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
