use std::collections::HashSet;

use candle_core::quantized::gguf_file::Value as Entry;
use serde_json::{Map, Value, json};

use super::{Gguf, whole};
use crate::Result;

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Kinds of tokens, as `tokenizer.ggml.token_type` numbers them.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

/// How texts are cut before merges apply.
struct Cut {
    normalizer: Value,
    pre_tokenizer: Value,
    ignore_merges: bool,
    /// Whether texts begin with the first token unless the file says otherwise.
    adds_first: bool,
}

fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": use_regex,
    })
}

fn sequence(first: Value, use_regex: bool) -> Value {
    json!({ "type": "Sequence", "pretokenizers": [first, byte_level(use_regex)] })
}

fn split(regex: &str) -> Value {
    json!({
        "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false,
    })
}

/// Names of `tokenizer.ggml.pre` that [`cut`] knows.
///
/// Source: llama.cpp, `src/llama-vocab.cpp`, which also cuts a file without a name by a default, with a
/// warning; here that is refused as an unknown name is, for a wrong cut goes unseen.
const NAMES: [&str; 7] =
    ["gpt-2", "smollm", "starcoder", "qwen2", "deepseek-r1-qwen", "llama-bpe", "llama3"];

/// The cut that `tokenizer.ggml.pre` names: what the `tokenizer.json` of such a model has.
fn cut(name: &str) -> Option<Cut> {
    let plain = |pre_tokenizer| Cut {
        normalizer: Value::Null,
        pre_tokenizer,
        ignore_merges: false,
        adds_first: false,
    };
    match name {
        "gpt-2" => Some(plain(byte_level(true))),
        "smollm" | "starcoder" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            Some(plain(sequence(digits, true)))
        }
        "qwen2" | "deepseek-r1-qwen" => {
            let cut = plain(sequence(split(QWEN2), false));
            Some(Cut { normalizer: json!({ "type": "NFC" }), ..cut })
        }
        "llama-bpe" | "llama3" => {
            let cut = plain(sequence(split(LLAMA3), false));
            Some(Cut { ignore_merges: true, adds_first: true, ..cut })
        }
        _ => None,
    }
}

impl Gguf {
    /// The `tokenizer.json` of byte-level BPE from vocabulary and merges; `None` if the file has
    /// no tokenizer.
    pub(super) fn tokenizer(&self) -> Result<Option<Value>> {
        let remedy = "put the tokenizer.json of the original model beside the file";
        let model = match self.string("tokenizer.ggml.model") {
            None | Some("no_vocab") => return Ok(None),
            Some(model) => model,
        };
        let pre = self.string("tokenizer.ggml.pre").unwrap_or("none");
        let Some(cut) = cut(pre).filter(|_| model == "gpt2") else {
            return self.bad(format!(
                "its tokenizer (tokenizer.ggml.model `{model}`, pre `{pre}`) is not converted; read \
                 are `gpt2` with pre {}; {remedy}",
                NAMES.join(", ")
            ));
        };
        let Some(tokens) = self.strings("tokenizer.ggml.tokens")? else {
            return self.bad(format!("tokenizer.ggml.tokens is missing; {remedy}"));
        };
        let kinds = self.token_kinds(tokens.len())?;
        let of_kind = |id: usize, kind: u64| kinds.get(id) == Some(&kind);
        let used = || tokens.iter().enumerate().filter(|(id, _)| !of_kind(*id, UNUSED));
        let vocab: Map<String, Value> =
            used().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
        if vocab.len() != used().count() {
            let mut seen = HashSet::new();
            let twice = used().map(|(_, token)| *token).find(|token| !seen.insert(*token));
            return self.bad(format!("two tokens are {:?}; {remedy}", twice.unwrap_or_default()));
        }
        let added = used().filter(|(id, _)| of_kind(*id, CONTROL) || of_kind(*id, USER_DEFINED));
        let added = added.map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": of_kind(id, CONTROL),
            })
        });
        let merges = self.strings("tokenizer.ggml.merges")?.unwrap_or_default();
        let merges: Option<Vec<_>> = merges.iter().map(|merge| merge.split_once(' ')).collect();
        let Some(merges) = merges else {
            return self.bad(format!("an entry of tokenizer.ggml.merges is no pair; {remedy}"));
        };
        Ok(Some(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": cut.normalizer,
            "pre_tokenizer": cut.pre_tokenizer,
            "post_processor": self.template(&tokens, cut.adds_first),
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true,
            },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": cut.ignore_merges,
                "vocab": vocab, "merges": merges,
            },
        })))
    }

    /// What is put around a text.
    fn template(&self, tokens: &[&str], adds_first: bool) -> Value {
        let token = |wanted: bool, key: &str| -> Option<(u64, &str)> {
            let id = self.whole(key).filter(|_| wanted)?;
            Some((id, *tokens.get(usize::try_from(id).ok()?)?))
        };
        let adds = |key: &str, default| self.flag(key).unwrap_or(default);
        let first =
            token(adds("tokenizer.ggml.add_bos_token", adds_first), "tokenizer.ggml.bos_token_id");
        let last =
            token(adds("tokenizer.ggml.add_eos_token", false), "tokenizer.ggml.eos_token_id");
        if first.is_none() && last.is_none() {
            return Value::Null;
        }
        let special =
            |(_, token): (u64, &str)| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
        let around = |text: Value| -> Vec<Value> {
            let (before, after) = (first.map(special), last.map(special));
            before.into_iter().chain([text]).chain(after).collect()
        };
        let known: Map<String, Value> = [first, last]
            .into_iter()
            .flatten()
            .map(|(id, token)| {
                let entry = json!({ "id": token, "ids": [id], "tokens": [token] });
                (token.to_owned(), entry)
            })
            .collect();
        let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let pair = [around(text("A")), around(text("B"))].concat();
        json!({
            "type": "TemplateProcessing",
            "single": around(text("A")),
            "pair": pair,
            "special_tokens": known,
        })
    }

    /// The kind of each token; none if the file does not say them.
    fn token_kinds(&self, n: usize) -> Result<Vec<u64>> {
        let key = "tokenizer.ggml.token_type";
        let kinds = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Entry::Array(kinds)) => kinds.iter().map(whole).collect::<Option<Vec<u64>>>(),
            Some(_) => None,
        };
        match kinds {
            Some(kinds) if kinds.len() == n => Ok(kinds),
            _ => self.bad(format!("{key} must have one whole number for each of {n} tokens")),
        }
    }

    /// Names of special tokens, and the chat template.
    pub(super) fn tokenizer_config(&self) -> Value {
        let tokens = self.strings("tokenizer.ggml.tokens").ok().flatten().unwrap_or_default();
        let mut config = Map::new();
        for (name, key) in [
            ("bos_token", "tokenizer.ggml.bos_token_id"),
            ("eos_token", "tokenizer.ggml.eos_token_id"),
            ("pad_token", "tokenizer.ggml.padding_token_id"),
            ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ] {
            let id = self.whole(key).and_then(|id| usize::try_from(id).ok());
            if let Some(token) = id.and_then(|id| tokens.get(id)) {
                config.insert(name.into(), json!(token));
            }
        }
        if let Some(template) = self.string("tokenizer.chat_template") {
            config.insert("chat_template".into(), json!(template));
        }
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        Value::Object(config)
    }
}
