//! GGUF files: values, scores, tokenizers and configs as gguf's own package, transformers and
//! tokenizers have them (`tests/gguf_files/make.py`), and what is wrong with a file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use opd_batch::ScoredSequence;
use opd_models::{
    CausalLm, ChatTemplate, Message, ModelConfig, Tokenizer, eos_token_ids, is_model, model_files,
};
use opd_testkit::{GoldenModel, ModelDir, assert_close, host};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::load;

/// Q8_0, Q4_K, Q6_K, Q4_1, Q4_0 and F32; Q8_0, F16, BF16, Q4_0, Q4_1, Q6_K with the rope factors
/// of Llama 3; Q5_0 and Q5_1 with a bias and a linear rope; Q4_K rows of the embedding with YaRN.
const NAMES: [&str; 4] = ["llama", "llama3", "qwen2", "qwen3"];

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<u32>,
    log_probs: Vec<f64>,
    rope_parameters: Map<String, Value>,
    tensors: BTreeMap<String, Values>,
    texts: Vec<(String, Vec<u32>)>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    sum_of_squares: f64,
    first: Vec<f64>,
    last: Vec<f64>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf_files").join(format!("{name}.gguf"))
}

fn expected(name: &str) -> Expected {
    serde_json::from_slice(&fs::read(file(name).with_extension("json")).unwrap()).unwrap()
}

fn scores(model: &CausalLm, tokens: &[u32]) -> Vec<f64> {
    let sequence = ScoredSequence { prompt: &tokens[..1], response: &tokens[1..] };
    let packed = model.pack(&[sequence]).unwrap();
    host(&model.token_logprobs(&packed, 1.0).unwrap().logprobs)
}

#[test]
fn values_are_those_of_its_own_package() {
    for name in NAMES {
        let (model, mut expected) = (load(file(name), DType::F32), expected(name));
        for parameter in model.parameters().iter() {
            let all = parameter.tensor();
            for (tensor, part) in parameter.split(&all) {
                let (part, want) = (part.unwrap(), expected.tensors.remove(tensor).unwrap());
                assert_eq!(part.dims(), want.shape, "{tensor}");
                let got = host(&part);
                let squares: f64 = got.iter().map(|x| x * x).sum();
                let difference = (squares - want.sum_of_squares).abs();
                assert!(difference <= 1e-6 * want.sum_of_squares, "{tensor} of {name}");
                assert_close(&got[..want.first.len()], &want.first, 1e-7);
                assert_close(&got[got.len() - want.last.len()..], &want.last, 1e-7);
            }
        }
        assert!(expected.tensors.is_empty());
    }
}

#[test]
fn scores_are_those_of_transformers_with_the_dequantized_weights() {
    for name in NAMES {
        let (model, expected) = (load(file(name), DType::F32), expected(name));
        assert_close(&scores(&model, &expected.tokens), &expected.log_probs, 2e-4);
    }
}

#[test]
fn texts_are_cut_as_the_metadata_say() {
    for name in NAMES {
        let tokenizer = Tokenizer::load(file(name)).unwrap();
        for (text, ids) in expected(name).texts {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
        }
        let text = "hello world, 12345 naïve 🙂";
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        assert!(tokenizer.is_special(1) && !tokenizer.is_special(100));
    }
}

#[test]
fn the_config_says_what_the_metadata_say() {
    for name in NAMES {
        let config = ModelConfig::load(&file(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        load(file(name), DType::F32).save(dir.path()).unwrap();
        let saved: Value =
            serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(saved["rope_parameters"], Value::Object(expected(name).rope_parameters));
        assert_eq!(config.rms_norm_eps, 1e-5);
        assert_eq!((config.n_heads, config.n_kv_heads, config.head_dim), (4, 2, 8));
        assert_eq!((config.context, config.eos_token_ids.clone()), (128, vec![2]));
        assert_eq!(eos_token_ids(&file(name)).unwrap(), [2]);
        assert_eq!(config.tie_word_embeddings, ["llama", "qwen3"].contains(&name));
        assert_eq!((config.qkv_bias, config.qk_norm()), (name == "qwen2", name == "qwen3"));
    }
}

#[test]
fn what_is_saved_is_a_hugging_face_directory_of_the_same_model() {
    for name in NAMES {
        let (model, expected) = (load(file(name), DType::F32), expected(name));
        let dir = tempfile::tempdir().unwrap();
        model.save(dir.path()).unwrap();
        let again = load(dir.path(), DType::F32);
        assert_eq!(scores(&again, &expected.tokens), scores(&model, &expected.tokens));
        let (from_file, saved) =
            (Tokenizer::load(file(name)).unwrap(), Tokenizer::load(dir.path()).unwrap());
        from_file.check_same(&saved).unwrap();
        for (text, ids) in expected.texts {
            assert_eq!(saved.encode(&text).unwrap(), ids);
        }
        let messages = [Message::user("hello")];
        let text = ChatTemplate::load(dir.path()).unwrap().render(&messages).unwrap();
        assert_eq!(text, "<|im_start|>user\nhello<|im_end|>\n");
        let template = ChatTemplate::load(file(name)).unwrap();
        assert_eq!(template.render(&messages).unwrap(), text);
        assert_eq!(eos_token_ids(dir.path()).unwrap(), [2]);
    }
}

#[test]
fn a_directory_may_hold_one() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, path) = (dir.path().join("model.gguf"), dir.path());
    assert!(!is_model(path));
    fs::copy(file("llama"), &inside).unwrap();
    let expected = expected("llama");
    assert!(is_model(path) && is_model(&inside));
    assert_eq!(model_files(path).unwrap(), std::slice::from_ref(&inside));
    assert_close(&scores(&load(path, DType::F32), &expected.tokens), &expected.log_probs, 2e-4);
    Tokenizer::load(path).unwrap().check_same(&Tokenizer::load(file("llama")).unwrap()).unwrap();

    // A tokenizer beside the file is the one that is meant.
    let other = ModelDir::copy(&GoldenModel::load("llama_tied").dir);
    other.write_tokenizer(&["?", "hello"]);
    fs::copy(other.path().join("tokenizer.json"), path.join("tokenizer.json")).unwrap();
    for place in [path, &inside] {
        assert_eq!(Tokenizer::load(place).unwrap().encode("hello").unwrap(), [1]);
    }

    fs::copy(file("llama"), path.join("second.gguf")).unwrap();
    let error = CausalLm::load(path, DType::F32, &Device::Cpu).unwrap_err();
    let what = "2 GGUF files; name the one that is meant";
    assert_eq!(error.to_string(), format!("{}: {what}", path.display()));
    load(&inside, DType::F32);

    let nowhere = path.join("nowhere.gguf");
    let error = CausalLm::load(&nowhere, DType::F32, &Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: cannot read", nowhere.display()));
    assert!(!is_model(&nowhere));
}

/// A header of version 3 with this many tensors and entries, and what follows.
fn header(tensors: u64, entries: u64, rest: &[&[u8]]) -> Vec<u8> {
    let counts = [tensors.to_le_bytes(), entries.to_le_bytes()].concat();
    [b"GGUF".as_slice(), &3u32.to_le_bytes(), &counts, &rest.concat()].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn number(n: u32) -> Vec<u8> {
    n.to_le_bytes().to_vec()
}

fn error_of(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let error = CausalLm::load(&path, DType::F32, &Device::Cpu).unwrap_err().to_string();
    error.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
}

#[test]
fn a_header_is_held_against_the_file() {
    let entry = |name: &str, kind: u32, rest: &[u8]| -> Vec<u8> {
        [string(name), number(kind), rest.to_vec()].concat()
    };
    let list = |kind: u32, n: u64| [number(kind), n.to_le_bytes().to_vec()].concat();
    let tensor = |dims: &[u64], kind: u32, offset: u64| -> Vec<u8> {
        let sizes: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let offset = offset.to_le_bytes().to_vec();
        [string("a"), number(dims.len() as u32), sizes, number(kind), offset].concat()
    };
    let past = "truncated, or a damaged header: it goes on past its end";
    let nested = [list(9, 1), list(9, 1), list(9, 1)].concat();
    for (bytes, what) in [
        (b"GGML".to_vec(), "no GGUF file: it does not begin with `GGUF`"),
        (vec![], past),
        (
            [b"GGUF".as_slice(), &1u32.to_le_bytes(), &[0; 20]].concat(),
            "GGUF version 1 is not supported; supported: 2 and 3",
        ),
        (
            header(u64::MAX, 0, &[]),
            "a header of 18446744073709551615 tensors and 0 entries; at most 131072 of each",
        ),
        (header(0, 1, &[&u64::MAX.to_le_bytes()]), past),
        (header(0, 1, &[&entry("a", 13, &[0; 8])]), "a damaged header: values of kind 13"),
        (
            header(0, 1, &[&entry("a", 9, &list(0, 1 << 40))]),
            "lists of more than 4194304 values in the metadata",
        ),
        (header(0, 1, &[&entry("a", 9, &list(0, 1 << 20))]), past),
        (header(0, 1, &[&entry("a", 9, &nested)]), "lists of lists of lists in the metadata"),
        (
            header(0, 1, &[&entry("general.alignment", 4, &number(0))]),
            "general.alignment must be a power of two, 8 or above",
        ),
        (
            header(0, 1, &[&entry("general.alignment", 10, &[8, 0, 0, 0, 0, 0, 0, 0])]),
            "general.alignment must be a power of two, 8 or above",
        ),
        (header(1, 0, &[&tensor(&[1, 1, 1, 1, 1], 0, 0)]), "tensor `a` has 5 dimensions"),
        (
            header(1, 0, &[&tensor(&[1 << 40, 1 << 40], 0, 0)]),
            "tensor `a` has dimensions [1099511627776, 1099511627776]",
        ),
        (
            header(1, 0, &[&tensor(&[16], 9, 0)]),
            "tensor `a` has GGML type 9; supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, \
             Q2_K, Q3_K, Q4_K, Q5_K, Q6_K",
        ),
        (
            header(1, 0, &[&tensor(&[48, 2], 8, 0)]),
            "tensor `a` has rows of 48 values in blocks of 32",
        ),
        (header(1, 0, &[&tensor(&[2], 0, 7)]), "tensor `a` begins at 7, no multiple of 32"),
        (
            header(1, 0, &[&tensor(&[2], 0, u64::MAX - 31)]),
            "truncated: tensor `a` lies beyond the file's 57 bytes",
        ),
        (
            header(1, 0, &[&tensor(&[1 << 50], 0, 0)]),
            "truncated: tensor `a` lies beyond the file's 57 bytes",
        ),
    ] {
        assert_eq!(error_of(&bytes), format!("{what}; fetch or save it again"));
    }
    let other = header(0, 1, &[&entry("general.architecture", 8, &string("mamba"))]);
    assert_eq!(error_of(&other), "general.architecture is `mamba`; supported: qwen3, qwen2, llama");
}

#[test]
fn a_truncated_file_says_so_wherever_it_is_cut() {
    let whole = fs::read(file("llama")).unwrap();
    for cut in [0, 3, 4, 23, 24, 100, 1000, 5000, 9000, whole.len() / 2, whole.len() - 1] {
        let error = error_of(&whole[..cut]);
        assert!(error.starts_with("truncated"), "{cut}: {error}");
    }
}

/// Replaces the first place of `from` by `to`, which is as long.
fn replaced(name: &str, from: &str, to: &str) -> Vec<u8> {
    let mut whole = fs::read(file(name)).unwrap();
    let at = whole.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    whole[at..at + to.len()].copy_from_slice(to.as_bytes());
    whole
}

#[test]
fn what_the_metadata_lack_is_named() {
    for (from, to, what) in [
        ("llama.block_count", "llama.block_c0unt", "llama.block_count must be a whole number"),
        (
            "llama.attention.head_count",
            "llama.attention.head_c0unt",
            "llama.attention.head_count must be a whole number",
        ),
        ("token_embd.weight", "token_embe.weight", "tensor `token_embd.weight` is missing"),
        ("llama.rope.dimension_count", "llama.expert_count_1234567", ""),
    ] {
        let error = {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("model.gguf");
            fs::write(&path, replaced("llama", from, to)).unwrap();
            CausalLm::load(&path, DType::F32, &Device::Cpu).err().map(|error| error.to_string())
        };
        match what {
            "" => assert_eq!(error, None),
            what => assert!(error.unwrap().ends_with(what)),
        }
    }
    let missing = error_of(&replaced("llama", "blk.1.ffn_up", "blk.1.ffn_ip"));
    assert!(missing.ends_with("tensor `model.layers.1.mlp.up_proj.weight` [64, 256] is missing"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, replaced("llama", "smollm", "smullm")).unwrap();
    assert_eq!(
        Tokenizer::load(&path).unwrap_err().to_string(),
        format!(
            "{}: its tokenizer (tokenizer.ggml.model `gpt2`, pre `smullm`) is not converted; read \
             are `gpt2` with pre gpt-2, smollm, starcoder, qwen2, deepseek-r1-qwen, llama-bpe, \
             llama3; put the tokenizer.json of the original model beside the file",
            path.display()
        )
    );
    // The model itself is whole.
    let expected = expected("llama");
    assert_close(&scores(&load(&path, DType::F32), &expected.tokens), &expected.log_probs, 2e-4);
}

#[test]
fn rope_factors_that_are_not_llama_3_s_are_refused() {
    let mut whole = fs::read(file("llama3")).unwrap();
    // The factors are the last tensor: 4 numbers of 4 bytes, padded to 32.
    let at = whole.len() - 32;
    assert_eq!(whole[at..at + 4], 1f32.to_le_bytes());
    whole[at..at + 4].copy_from_slice(&3f32.to_le_bytes());
    assert_eq!(
        error_of(&whole),
        "the factors of `rope_freqs.weight` are not those of Llama 3.1 or 3.2, and other ones \
         are not supported"
    );
}
