use std::{fs, ops::Range};

use opd_testkit::{GoldenModel, ModelDir};
use serde_json::json;

use crate::{
    scores::{agrees_with_in_process, limits_are_kept},
    server::{SGLANG, Server},
};

/// Tokens of the tiny checkpoints, and what they may attend to.
const VOCAB: usize = 320;
const CONTEXT: usize = 512;

/// Qwen3, Qwen2 and Llama, tied and not, the `which` of them, one behind SGLang after the other;
/// the first has a pool of keys and values that is smaller than its context. vLLM takes no heads
/// as small as these.
pub(crate) fn agree(which: Range<usize>) {
    for (i, golden) in GoldenModel::all().enumerate().filter(|(i, _)| which.contains(i)) {
        let dir = ModelDir::copy(&golden.dir);
        give_tokenizer(&dir);
        let named = dir.path().join(GoldenModel::NAMES[i]);
        fs::create_dir(&named).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                fs::rename(entry.path(), named.join(entry.file_name())).unwrap();
            }
        }
        let pool = if i == 0 { "256" } else { "8192" };
        let server = Server::start(SGLANG, &named, CONTEXT, &["--max-total-tokens", pool]);
        agrees_with_in_process(&server, &named);
        if i == 0 {
            limits_are_kept(&server, VOCAB, 256 - 7);
        }
    }
}

/// SGLang does not start without one; ours are asked by ids.
fn give_tokenizer(dir: &ModelDir) {
    let words: Vec<String> = (0..VOCAB).map(|id| format!("w{id}")).collect();
    dir.write_tokenizer(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "w0" });
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
}
