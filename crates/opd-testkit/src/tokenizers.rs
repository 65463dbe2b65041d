use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

/// The characters by which byte-level tokenizers write the 256 bytes: printable ones stand for
/// themselves, the others for those from U+0100 on.
fn byte_characters() -> Vec<char> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    let character = |byte| match printable(byte) {
        true => char::from_u32(byte),
        false => others.next().and_then(char::from_u32),
    };
    (0..256).map(character).map(Option::unwrap).collect()
}

/// Writes a byte-level `tokenizer.json`, as of GPT-2 and Qwen: `<eos>` is id 0, bytes are ids 1
/// to 256, and each merge joins two tokens, written in the characters of the format, into the
/// next id.
pub fn write_byte_level(dir: &Path, merges: &[(&str, &str)]) {
    let mut vocab: BTreeMap<String, usize> = BTreeMap::from([("<eos>".into(), 0)]);
    for (byte, character) in byte_characters().into_iter().enumerate() {
        vocab.insert(character.to_string(), byte + 1);
    }
    for (a, b) in merges {
        vocab.insert(format!("{a}{b}"), vocab.len());
    }
    let merges: Vec<Value> = merges.iter().map(|(a, b)| json!([a, b])).collect();
    let model = json!({ "type": "BPE", "vocab": vocab, "merges": merges });
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    write(dir, model, level.clone(), level);
}

/// Writes a `tokenizer.json` as of Llama 2: words begin with `▁`, and what is in no token is
/// written by its bytes. `<eos>` is id 0, bytes are ids 1 to 256, then come `tokens`, the
/// likelier first.
pub fn write_byte_fallback(dir: &Path, tokens: &[&str]) {
    let mut vocab: Vec<Value> = vec![json!(["<eos>", 0.0])];
    vocab.extend((0..256).map(|byte| json!([format!("<0x{byte:02X}>"), -100.0])));
    vocab.extend(tokens.iter().zip(1..).map(|(token, rank)| json!([token, -(f64::from(rank))])));
    let model = json!({ "type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": true });
    let pre = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false });
    let decoder = json!({ "type": "Sequence", "decoders": [
        { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
        { "type": "ByteFallback" },
        { "type": "Fuse" },
        { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
    ] });
    write(dir, model, pre, decoder);
}

fn write(dir: &Path, model: Value, pre_tokenizer: Value, decoder: Value) {
    let end = json!({
        "id": 0, "content": "<eos>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [end],
        "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": decoder, "model": model,
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(dir.join("generation_config.json"), r#"{"eos_token_id": 0}"#).unwrap();
}
