//! Weights in several files behind an index.

use std::{collections::HashMap, fs};

use candle_core::{DType, Device, Tensor};
use opd_models::CausalLm;
use opd_testkit::{GoldenModel, ModelDir};
use serde_json::{Map, Value, json};

use super::{eight, load, logprobs};

const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a model in `n` files, every other one in half precision.
fn sharded(n: usize) -> ModelDir {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_untied").dir);
    let single = dir.path().join("model.safetensors");
    let tensors = candle_core::safetensors::load(&single, &Device::Cpu).unwrap();
    fs::remove_file(&single).unwrap();
    let mut names: Vec<&String> = tensors.keys().collect();
    names.sort();
    let mut weight_map = Map::new();
    for i in 0..n {
        let file = format!("model-{:05}-of-{n:05}.safetensors", i + 1);
        let part: HashMap<String, Tensor> = names
            .iter()
            .skip(i)
            .step_by(n)
            .map(|&name| (name.clone(), tensors[name].clone()))
            .collect();
        weight_map.extend(part.keys().map(|name| (name.clone(), json!(file))));
        candle_core::safetensors::save(&part, dir.path().join(file)).unwrap();
    }
    write_index(&dir, json!({"metadata": {"total_size": 1}, "weight_map": weight_map}));
    dir
}

fn write_index(dir: &ModelDir, index: Value) {
    fs::write(dir.path().join(INDEX), index.to_string()).unwrap();
}

fn error(dir: &ModelDir) -> String {
    CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap_err().to_string()
}

#[test]
fn shards_are_one_model() {
    let whole = load(&GoldenModel::load("qwen3_untied").dir, DType::F32);
    let want = logprobs(&whole, &eight(), 1.0);
    for n in [1, 3] {
        let dir = sharded(n);
        let model = load(dir.path(), DType::F32);
        assert_eq!(logprobs(&model, &eight(), 1.0), want);
        model.reload(dir.path()).unwrap();
        assert_eq!(logprobs(&model, &eight(), 1.0), want);
    }
}

#[test]
fn half_precision_is_widened_without_rounding() {
    for half in [DType::F16, DType::BF16] {
        let dir = ModelDir::copy(&GoldenModel::load("llama_tied").dir);
        let path = dir.path().join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_dtype(half).unwrap();
        }
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let model = load(dir.path(), DType::F32);
        for parameter in model.parameters().iter() {
            let values = parameter.tensor();
            for (name, part) in parameter.split(&values) {
                let want = tensors[name].to_dtype(DType::F32).unwrap();
                let difference = (part.unwrap() - want).unwrap().abs().unwrap();
                assert_eq!(
                    difference.sum_all().unwrap().to_scalar::<f32>().unwrap(),
                    0.0,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_shard_that_is_missing_or_cut_is_named() {
    let dir = sharded(3);
    let path = dir.path().join("model-00002-of-00003.safetensors");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let cut = error(&dir);
    assert!(cut.starts_with(&format!("{}: truncated: expected", path.display())), "{cut}");
    fs::remove_file(&path).unwrap();
    assert_eq!(error(&dir), format!("{}: cannot read", path.display()));
}

#[test]
fn an_index_may_not_leave_its_directory() {
    let dir = sharded(1);
    let message = |index: Value| {
        write_index(&dir, index);
        let error = error(&dir);
        let path = dir.path().join(INDEX).display().to_string();
        error.strip_prefix(&format!("{path}: ")).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    for name in [
        "../model.safetensors",
        "/etc/passwd",
        "sub/model.safetensors",
        "..",
        ".",
        "",
        "a\\b.safetensors",
        "C:model.safetensors",
        "./model.safetensors",
    ] {
        assert_eq!(
            message(json!({"weight_map": {"a": name}})),
            format!("weight_map names `{name}`, which is no plain file name")
        );
    }
    assert_eq!(message(json!({"weight_map": {}})), "weight_map names no file");
    assert_eq!(message(json!({"metadata": {}})), "missing field `weight_map`");
    assert_eq!(message(json!([1])), "expected a JSON object");
    let wrong = message(json!({"weight_map": {"a": 3}}));
    assert!(wrong.starts_with("invalid type: "), "{wrong}");
}
