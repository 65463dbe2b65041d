//! What reads a model's files takes any bytes: no panic, and no memory for what they claim.

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use candle_core::{DType, Device};
use opd_models::{CausalLm, ChatTemplate, Message, ModelConfig, Tokenizer};
use opd_testkit::{GoldenModel, ModelDir};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Pieces that may stand where they should not.
const PIECES: [&[u8]; 20] = [
    b"null",
    b"1e999",
    b"-1",
    b"0",
    b"67108864",
    b"18446744073709551616",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"\"../x\"",
    b"\"F64\"",
    b"\"rope_type\":\"yarn\",",
    b"\"num_experts\":67108864,",
    b"[18446744073709551615,2]",
    b"true",
    b",",
    &[0xff; 8],
    &[0; 8],
    &[9, 0, 0, 0, 9, 0, 0, 0],
    &[0, 0, 0, 0, 1, 0, 0, 0],
];

/// A file as it is, with pieces cut, doubled or replaced in its first `header` bytes, and bytes
/// of nothing.
fn inputs(good: Vec<u8>, header: usize) -> impl Strategy<Value = Vec<u8>> {
    let edit = (0usize..5, any::<prop::sample::Index>(), 0usize..24, 0..PIECES.len());
    let edited = prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = good.clone();
        for (kind, at, length, piece) in edits {
            if bytes.is_empty() {
                break;
            }
            let start = at.index(header.min(bytes.len()));
            let end = bytes.len().min(start + length);
            let cut = bytes[start..end].to_vec();
            match kind {
                0 => drop(bytes.drain(start..end)),
                1 => drop(bytes.splice(start..start, cut)),
                2 => drop(bytes.splice(start..end, PIECES[piece].iter().copied())),
                3 => {
                    // As long as before, so that what follows stays where it is.
                    let piece = PIECES[piece].iter().take(end - start);
                    bytes[start..].iter_mut().zip(piece).for_each(|(byte, new)| *byte = *new);
                }
                _ => bytes.truncate(start),
            }
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 9 => edited]
}

/// Most memory that this process has held, in KiB.
pub(crate) fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// For 1 second, or `OPD_FUZZ_SECONDS`, and with a hundredth of `OPD_FUZZ_INPUTS` inputs at least
/// (each is a file), or a share of that for one of `goods` good files: `read` says whether a file is
/// accepted.
fn fuzz(name: &str, goods: usize, good: Vec<u8>, header: usize, read: impl Fn(&[u8]) -> bool) {
    assert!(read(&good), "{name}: the file as it is");
    let variable = |name| env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let time = Duration::from_secs(variable("OPD_FUZZ_SECONDS").unwrap_or(1)) / goods as u32;
    let least = variable("OPD_FUZZ_INPUTS").unwrap_or(0) / 100 / goods as u64;
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (strategy, start, before) = (inputs(good, header), Instant::now(), peak());
    let (mut tried, mut accepted) = (0u64, 0u64);
    while start.elapsed() < time || tried < least {
        accepted += u64::from(read(&strategy.new_tree(&mut runner).unwrap().current()));
        tried += 1;
    }
    println!("{name}: {tried} inputs, {accepted} accepted, in {:.1?}", start.elapsed());
    assert!(accepted < tried, "{name}: every input was accepted");
    assert!(peak() < before + (512 << 10), "{name}: {} KiB, {before} before", peak());
}

/// Puts bytes into a file of a model directory and loads the model.
fn loads(dir: &Path, name: &str, bytes: &[u8]) -> bool {
    fs::write(dir.join(name), bytes).unwrap();
    CausalLm::load(dir, DType::F32, &Device::Cpu).is_ok()
}

#[test]
fn configs() {
    let names = ["qwen3_yarn", "qwen3_moe", "mistral"];
    for name in names {
        let dir = ModelDir::copy(&GoldenModel::load(name).dir);
        let good = fs::read(dir.path().join("config.json")).unwrap();
        let length = good.len();
        fuzz(&format!("config of {name}"), names.len(), good, length, |bytes| {
            fs::write(dir.path().join("config.json"), bytes).unwrap();
            let config = ModelConfig::load(dir.path());
            // What is accepted can be asked everything.
            config.is_ok_and(|config| {
                let frequencies =
                    config.rope.inverse_frequencies(config.rope_theta, config.head_dim);
                assert!(frequencies.iter().all(|angle| angle.is_finite()));
                assert!(config.rope.attention_factor().is_finite());
                loads(dir.path(), "config.json", bytes)
            })
        });
    }
}

#[test]
fn safetensors_headers() {
    let dir = ModelDir::copy(&GoldenModel::load("llama_linear").dir);
    let good = fs::read(dir.path().join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    fuzz("safetensors header", 1, good, header, |bytes| {
        loads(dir.path(), "model.safetensors", bytes)
    });
}

#[test]
fn indices() {
    let dir = ModelDir::copy(&GoldenModel::load("llama_linear").dir);
    let name = "model-00001-of-00001.safetensors";
    fs::rename(dir.path().join("model.safetensors"), dir.path().join(name)).unwrap();
    let good = format!(r#"{{"metadata": {{}}, "weight_map": {{"a": "{name}", "b": "{name}"}}}}"#);
    let length = good.len();
    fuzz("index of shards", 1, good.into_bytes(), length, |bytes| {
        loads(dir.path(), "model.safetensors.index.json", bytes)
    });
}

#[test]
fn gguf_headers() {
    let names = ["llama", "llama3"];
    for name in names {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf_files");
        let good = fs::read(file.join(format!("{name}.gguf"))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        // The names of the tensors end the header.
        let last = b"output_norm.weight";
        let header = good.windows(last.len()).position(|part| part == last).unwrap() + 60;
        fuzz(&format!("GGUF header of {name}"), names.len(), good, header, |bytes| {
            fs::write(&path, bytes).unwrap();
            let model = CausalLm::load(&path, DType::F32, &Device::Cpu).is_ok();
            let _ = Tokenizer::load(&path);
            model
        });
    }
}

/// A template is not trusted: it ends, within bounds of time and memory, whatever it says.
#[test]
fn chat_templates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chat_template.jinja");
    let good = "{%- if messages[0]['role'] == 'system' %}{% set start = 1 %}{% endif %}\
        {%- macro turn(m) %}<|im_start|>{{ m.role ~ '\\n' + m['content'] | trim }}<|im_end|>\
        {% endmacro %}{% for m in messages %}{{ turn(m) }}{{ loop.index0 }}{% endfor %}\
        {% set ns = namespace(x=[1]) %}{% for i in range(9) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}\
        {{ ns.x | length ~ '{:>3}'.format(7) }}{{ 'aa'.replace('a', 'b' * 9) | indent(2) }}\
        {{ messages | tojson(indent=4) }}{{ range(20) | join(', ') }}{{ 'xyx'.strip('x') }}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    let messages =
        [Message::new("system", "Be brief."), Message::new("user", "What is 3 x 4? {{ 1 }}")];
    fuzz("chat template", 1, good.as_bytes().to_vec(), good.len(), |bytes| {
        fs::write(&path, bytes).unwrap();
        ChatTemplate::load(dir.path()).is_ok_and(|template| template.render(&messages).is_ok())
    });
}
