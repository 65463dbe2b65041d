use std::{fs, path::Path};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A copy of a model directory that a test may change.
#[derive(Debug)]
pub struct ModelDir(TempDir);

impl ModelDir {
    /// Copies every file of `from`.
    pub fn copy(from: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Changes `config.json`.
    pub fn edit_config(&self, edit: impl FnOnce(&mut Map<String, Value>)) {
        let path = self.path().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    }

    /// Writes a `tokenizer.json` of whole words, one id each from 0.
    pub fn write_tokenizer(&self, words: &[&str]) {
        let vocab: Map<String, Value> =
            words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [],
            "normalizer": null,
            "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": null,
            "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": words[0] },
        });
        fs::write(self.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    }
}
