//! Texts under every `tokenizer.ggml.pre` that is read, as llama.cpp and tokenizers cut them
//! (`tests/data/cuts/make.py`), and names that are not read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use opd_models::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cuts {
    texts: Vec<String>,
    ids: BTreeMap<String, Vec<Vec<u32>>>,
    /// Texts that are other bytes once their characters are composed.
    composed: Vec<String>,
    composed_ids: BTreeMap<String, Vec<Vec<u32>>>,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cuts"))
}

fn cuts() -> Cuts {
    serde_json::from_slice(&fs::read(folder().join("cuts.json")).unwrap()).unwrap()
}

/// What the vocabulary gives under this name of `tokenizer.ggml.pre`.
fn load(pre: &str) -> opd_models::Result<Tokenizer> {
    let mut file = vocabulary();
    let key = b"tokenizer.ggml.pre";
    let at = file.windows(key.len()).position(|part| part == key).unwrap() + key.len();
    // Behind the key: the type of a text, its length in 8 bytes, the text.
    assert_eq!(file[at..at + 4], 8u32.to_le_bytes());
    let held = u64::from_le_bytes(file[at + 4..at + 12].try_into().unwrap()) as usize;
    let text = [&(pre.len() as u64).to_le_bytes(), pre.as_bytes()].concat();
    file.splice(at + 4..at + 12 + held, text);
    read(&file)
}

fn vocabulary() -> Vec<u8> {
    fs::read(folder().join("vocabulary.gguf")).unwrap()
}

fn read(file: &[u8]) -> opd_models::Result<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, file).unwrap();
    Tokenizer::load(&path)
}

#[test]
fn every_name_cuts_as_llama_cpp_and_tokenizers_do() {
    let cuts = cuts();
    let names =
        ["deepseek-r1-qwen", "gpt-2", "llama-bpe", "llama3", "qwen2", "smollm", "starcoder"];
    assert_eq!(cuts.ids.keys().map(String::as_str).collect::<Vec<_>>(), names);
    for name in names {
        let tokenizer = load(name).unwrap();
        let plain = cuts.texts.iter().zip(&cuts.ids[name]);
        let composed = cuts.composed.iter().zip(&cuts.composed_ids[name]);
        for (text, ids) in plain.chain(composed) {
            assert_eq!(tokenizer.encode_continuation(text).unwrap(), *ids, "{name}: {text:?}");
        }
        for (text, ids) in cuts.texts.iter().zip(&cuts.ids[name]) {
            if !text.contains("<|") {
                assert_eq!(tokenizer.decode(ids).unwrap(), *text, "{name}");
            }
        }
    }
}

/// The texts tell the names apart that stand for different cuts, or a wrong cut could go unseen.
#[test]
fn the_texts_tell_the_cuts_apart() {
    let cuts = cuts();
    let distinct: BTreeSet<_> = cuts.ids.values().collect();
    assert_eq!(distinct.len(), 4);
    assert_eq!(cuts.ids["smollm"], cuts.ids["starcoder"]);
    assert_eq!(cuts.ids["qwen2"], cuts.ids["deepseek-r1-qwen"]);
    assert_eq!(cuts.ids["llama-bpe"], cuts.ids["llama3"]);
    assert_ne!(cuts.composed_ids["qwen2"], cuts.composed_ids["llama3"]);
}

#[test]
fn a_name_that_is_not_read_is_refused_with_those_that_are() {
    for name in ["", "default", "tekken", "smullm", "qwen35"] {
        let error = load(name).unwrap_err().to_string();
        let expected = format!(
            "its tokenizer (tokenizer.ggml.model `gpt2`, pre `{name}`) is not converted; read are \
             `gpt2` with pre gpt-2, smollm, starcoder, qwen2, deepseek-r1-qwen, llama-bpe, llama3; \
             put the tokenizer.json of the original model beside the file"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
    let mut nameless = vocabulary();
    let key = b"tokenizer.ggml.pre";
    let at = nameless.windows(key.len()).position(|part| part == key).unwrap();
    nameless[at + key.len() - 1] = b'x';
    let error = read(&nameless).unwrap_err().to_string();
    assert!(error.contains("pre `none`) is not converted; read are"), "{error}");
}
