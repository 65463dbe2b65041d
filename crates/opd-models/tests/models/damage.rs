//! Weight files that are not what the config says: an error that names the file, no panic, and
//! no allocation of what a damaged number asks for.

use std::{collections::HashMap, fs};

use candle_core::{DType, Device, Tensor};
use opd_models::{CausalLm, Error};
use opd_testkit::{GoldenModel, ModelDir, numbers};
use serde_json::json;

fn dir(name: &str) -> ModelDir {
    ModelDir::copy(&GoldenModel::load(name).dir)
}

fn error(dir: &ModelDir) -> Error {
    CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap_err()
}

fn edit_weights(dir: &ModelDir, edit: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    edit(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let dir = dir("qwen3_tied");
    edit_weights(&dir, |tensors| drop(tensors.remove("model.layers.1.self_attn.k_norm.weight")));
    assert_eq!(
        error(&dir).to_string(),
        format!(
            "{}: tensor `model.layers.1.self_attn.k_norm.weight` [24] is missing",
            dir.path().display()
        )
    );
}

#[test]
fn a_misshaped_tensor_is_named_with_both_shapes() {
    let dir = dir("qwen3_tied");
    edit_weights(&dir, |tensors| {
        let name = "model.layers.2.mlp.down_proj.weight";
        let turned = tensors[name].t().unwrap().contiguous().unwrap();
        tensors.insert(name.into(), turned);
    });
    assert_eq!(
        error(&dir).to_string(),
        format!(
            "{}: tensor `model.layers.2.mlp.down_proj.weight` has shape [160, 64], config.json implies [64, 160]",
            dir.path().join("model.safetensors").display()
        )
    );
}

#[test]
fn a_tensor_that_would_not_be_used_is_refused() {
    let dir = dir("qwen3_tied");
    let name = "model.layers.0.self_attn.q_proj.bias";
    edit_weights(&dir, |tensors| {
        let bias = Tensor::zeros(96, DType::F32, &Device::Cpu).unwrap();
        tensors.insert(name.into(), bias);
        // These two are known to be redundant.
        tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone());
        let frequencies = Tensor::zeros(12, DType::F32, &Device::Cpu).unwrap();
        tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), frequencies);
    });
    assert_eq!(
        error(&dir).to_string(),
        format!(
            "{}: tensor `{name}` is not part of Qwen3ForCausalLM; the checkpoint is of another architecture than config.json says",
            dir.path().join("model.safetensors").display()
        )
    );
    edit_weights(&dir, |tensors| drop(tensors.remove(name)));
    CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
}

#[test]
fn half_precision_weights_are_read_and_integers_are_not() {
    let dir = dir("llama_tied");
    edit_weights(&dir, |tensors| {
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_dtype(DType::BF16).unwrap();
        }
    });
    let model = CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(model.dtype(), DType::F32);
    edit_weights(&dir, |tensors| {
        let name = "model.norm.weight";
        let integers = tensors[name].to_dtype(DType::I64).unwrap();
        tensors.insert(name.into(), integers);
    });
    assert_eq!(
        error(&dir).to_string(),
        format!(
            "{}: tensor `model.norm.weight` has dtype I64; supported: F64, F32, F16, BF16; fetch or save it again",
            dir.path().join("model.safetensors").display()
        )
    );
    let error = CausalLm::load(dir.path(), DType::BF16, &Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "model: dtype BF16 is not supported; use f32 or f64");
}

#[test]
fn a_truncated_file_says_so_wherever_it_is_cut() {
    let dir = dir("qwen3_untied");
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for cut in [0, 1, 7, 8, 9, 100, 7 + header, 8 + header, 9 + header, 50_000, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        let message = error(&dir).to_string();
        assert!(message.starts_with(&format!("{}: truncated", path.display())), "{message}");
        assert!(message.ends_with("; fetch or save it again"), "{message}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(error(&dir).to_string(), format!("{}: cannot read", path.display()));
}

/// Whatever a header says, loading ends with a model or an error.
#[test]
fn a_damaged_header_never_panics() {
    let dir = dir("qwen2_tied");
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let places = numbers(200, 1, 1.0).into_iter().zip(numbers(200, 2, 128.0));
    let mut n_errors = 0;
    for (place, byte) in places {
        let mut damaged = whole.clone();
        damaged[((place + 1.0) / 2.0 * header as f64) as usize] = (byte + 128.0) as u8;
        fs::write(&path, damaged).unwrap();
        n_errors += CausalLm::load(dir.path(), DType::F32, &Device::Cpu).is_err() as usize;
    }
    assert!(n_errors > 150, "{n_errors} of 200");
    for (header, what) in [
        (r#"{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}}"#, "damaged header: "),
        (r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#, "damaged header: "),
        (
            r#"{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}"#,
            "damaged header: ",
        ),
        (
            r#"{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}"#,
            "truncated: expected 40000000",
        ),
    ] {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        fs::write(&path, file).unwrap();
        let message = error(&dir).to_string();
        assert!(message.starts_with(&format!("{}: {what}", path.display())), "{message}");
    }
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    let what =
        "truncated or no safetensors file: a header of 18446744073709551615 bytes in a file of 8";
    let expected = format!("{}: {what}; fetch or save it again", path.display());
    assert_eq!(error(&dir).to_string(), expected);
}

#[test]
fn sizes_that_the_file_does_not_have_are_not_allocated() {
    let dir = dir("qwen3_tied");
    let path = dir.path().join("model.safetensors").display().to_string();
    for (field, expected) in [
        (
            "vocab_size",
            format!(
                "{path}: tensor `model.embed_tokens.weight` has shape [320, 64], config.json implies [67108864, 64]"
            ),
        ),
        (
            "num_hidden_layers",
            format!(
                "{}: tensor `model.layers.3.input_layernorm.weight` [64] is missing",
                dir.path().display()
            ),
        ),
        (
            "intermediate_size",
            format!(
                "{path}: tensor `model.layers.0.mlp.gate_proj.weight` has shape [160, 64], config.json implies [67108864, 64]"
            ),
        ),
    ] {
        let dir = ModelDir::copy(dir.path());
        dir.edit_config(|config| drop(config.insert(field.into(), json!(1 << 26))));
        let message = error(&dir).to_string();
        let tail = |text: &str| text.split_once(": ").unwrap().1.to_owned();
        assert_eq!(tail(&message), tail(&expected));
    }
    dir.edit_config(|config| {
        config.insert("vocab_size".into(), json!(1 << 26));
        config.insert("hidden_size".into(), json!(1 << 26));
    });
    let error = CausalLm::random(dir.path(), 0, DType::F32, &Device::Cpu).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `model.embed_tokens.weight` [67108864, 67108864] does not fit into memory; check the sizes in config.json"
    );
}
