use std::{collections::HashMap, fs};

use candle_core::{DType, Device, Tensor};
use opd_models::CausalLm;
use opd_testkit::{GoldenModel, ModelDir, host};
use serde_json::{Value, json};

use super::{eight, load, logprobs, within};

fn json_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_saved_model_is_the_same_model() {
    for golden in GoldenModel::trainable() {
        let source = ModelDir::copy(&golden.dir);
        source.write_tokenizer(&["?", "a"]);
        source.edit_config(|config| {
            config.insert("field_of_somebody_else".into(), json!({"kept": [1, 2.5, null]}));
            config.insert("torch_dtype".into(), "bfloat16".into());
        });
        let model = load(source.path(), DType::F32);
        let target = tempfile::tempdir().unwrap();
        let dir = target.path().join("made/on/the/way");
        model.save(&dir).unwrap();

        let mut config = json_of(&source.path().join("config.json"));
        config["torch_dtype"] = "float32".into();
        assert_eq!(json_of(&dir.join("config.json")), config);
        for name in ["generation_config.json", "tokenizer.json"] {
            assert_eq!(json_of(&dir.join(name)), json_of(&source.path().join(name)));
        }
        let again = load(&dir, DType::F32);
        let eight = within(model.config().vocab_size, eight());
        assert_eq!(logprobs(&again, &eight, 1.0), logprobs(&model, &eight, 1.0));

        // The file holds what transformers would look for: the same names and shapes.
        let tensors = |dir: &std::path::Path| {
            let all = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu);
            let mut all: Vec<_> = all.unwrap().into_iter().map(|(n, t)| (n, host(&t))).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert!(tensors(&dir) == tensors(source.path()));
    }
}

#[test]
fn saving_over_its_own_directory_keeps_every_file() {
    let dir = ModelDir::copy(&GoldenModel::load("qwen2_tied").dir);
    dir.write_tokenizer(&["?", "a"]);
    let files = || {
        let mut all: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len() > 0))
            .collect();
        all.sort();
        all
    };
    let before = files();
    let model = load(dir.path(), DType::F32);
    let values = logprobs(&model, &eight(), 1.0);
    model.save(dir.path()).unwrap();
    assert_eq!(files(), before);
    assert_eq!(logprobs(&load(dir.path(), DType::F32), &eight(), 1.0), values);
}

#[test]
fn weights_are_taken_over_and_saved_after_a_change() {
    let golden = GoldenModel::load("qwen3_untied");
    let (model, other) = (load(&golden.dir, DType::F32), tempfile::tempdir().unwrap());
    let before = logprobs(&model, &eight(), 1.0);
    for parameter in model.parameters().iter() {
        let var = parameter.var();
        var.set(&(var.as_tensor() * 1.01).unwrap()).unwrap();
    }
    let changed = logprobs(&model, &eight(), 1.0);
    assert_ne!(changed, before);
    model.save(other.path()).unwrap();
    assert_eq!(logprobs(&load(other.path(), DType::F32), &eight(), 1.0), changed);
    model.reload(&golden.dir).unwrap();
    assert_eq!(logprobs(&model, &eight(), 1.0), before);
}

/// Cuts the weights over two files, with an index.
fn shard(dir: &ModelDir) -> HashMap<String, String> {
    let single = dir.path().join("model.safetensors");
    let all = candle_core::safetensors::load(&single, &Device::Cpu).unwrap();
    let mut names: Vec<String> = all.keys().cloned().collect();
    names.sort();
    let mut shards: [HashMap<String, Tensor>; 2] = Default::default();
    let mut weight_map = HashMap::new();
    for (i, name) in names.into_iter().enumerate() {
        shards[i % 2].insert(name.clone(), all[&name].clone());
        weight_map.insert(name, format!("model-0000{}-of-00002.safetensors", i % 2 + 1));
    }
    for (i, shard) in shards.iter().enumerate() {
        let path = dir.path().join(format!("model-0000{}-of-00002.safetensors", i + 1));
        candle_core::safetensors::save(shard, path).unwrap();
    }
    fs::remove_file(single).unwrap();
    weight_map
}

fn write_index(dir: &ModelDir, weight_map: &Value) {
    let index = json!({"metadata": {"total_size": 1}, "weight_map": weight_map});
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn weights_in_several_files_are_the_same_model() {
    let golden = GoldenModel::load("llama3_rope_untied");
    let dir = ModelDir::copy(&golden.dir);
    let weight_map = shard(&dir);
    write_index(&dir, &json!(weight_map));
    let (one, two) = (load(&golden.dir, DType::F32), load(dir.path(), DType::F32));
    assert_eq!(logprobs(&one, &eight(), 1.0), logprobs(&two, &eight(), 1.0));

    let message = || CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    let shard = dir.path().join("model-00002-of-00002.safetensors");
    fs::remove_file(&shard).unwrap();
    assert_eq!(message(), format!("{}: cannot read", shard.display()));
    let index = dir.path().join("model.safetensors.index.json");
    write_index(&dir, &json!({"lm_head.weight": "../secret"}));
    let what = "weight_map names `../secret`, which is no plain file name";
    assert_eq!(message(), format!("{}: {what}", index.display()));
    write_index(&dir, &json!(["lm_head.weight"]));
    assert!(message().starts_with(&format!("{}: ", index.display())), "{}", message());
}

#[test]
fn random_weights_are_a_function_of_the_seed() {
    let dir = &GoldenModel::load("qwen2_tied").dir;
    let of = |seed| {
        let model = CausalLm::random(dir, seed, DType::F32, &Device::Cpu).unwrap();
        model.parameters().iter().map(|p| host(&p.tensor())).collect::<Vec<_>>()
    };
    assert!(of(3) == of(3) && of(3) != of(4));
    let model = CausalLm::random(dir, 3, DType::F32, &Device::Cpu).unwrap();
    for parameter in model.parameters().iter() {
        let values = host(&parameter.tensor());
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let std =
            (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        let name = parameter.name();
        match (name.contains("norm"), name.contains("bias")) {
            (true, _) => assert!(values.iter().all(|&x| x == 1.0), "{name}"),
            (_, true) => assert!(values.iter().all(|&x| x == 0.0), "{name}"),
            // 0.02 is the config's `initializer_range`; the smallest matrix has 4096 values.
            _ => assert!(mean.abs() < 2e-3 && (std - 0.02).abs() < 2e-3, "{name}: {mean}, {std}"),
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let golden = GoldenModel::load("qwen3_tied");
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("file");
    fs::write(&file, "").unwrap();
    let error = load(&golden.dir, DType::F32).save(file.join("below")).unwrap_err();
    let expected = format!("{}: cannot make the directory", file.join("below").display());
    assert_eq!(error.to_string(), expected);
}

fn files(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn weights_above_the_limit_are_cut_and_read_again() {
    let golden = GoldenModel::load("llama3_rope_untied");
    let model = load(&golden.dir, DType::F32);
    let target = tempfile::tempdir().unwrap();
    let dir = target.path().join("cut");
    model.save_sharded(&dir, 100_000).unwrap();
    let index = json_of(&dir.join("model.safetensors.index.json"));
    assert_eq!(index["metadata"]["total_size"], model.n_weights() * 4);
    let map = index["weight_map"].as_object().unwrap();
    let mut shards: Vec<&str> = map.values().map(|name| name.as_str().unwrap()).collect();
    shards.sort_unstable();
    shards.dedup();
    let n = shards.len();
    assert!(n > 4, "{shards:?}");
    let expected = (1..=n).map(|i| format!("model-{i:05}-of-{n:05}.safetensors"));
    assert_eq!(shards, expected.collect::<Vec<_>>());
    for shard in &shards {
        let tensors = candle_core::safetensors::load(dir.join(shard), &Device::Cpu).unwrap();
        let bytes: usize = tensors.values().map(|tensor| 4 * tensor.elem_count()).sum();
        assert!(bytes <= 100_000 || tensors.len() == 1, "{shard}: {bytes}");
        assert!(tensors.keys().all(|name| map[name] == **shard));
    }
    assert_eq!(logprobs(&load(&dir, DType::F32), &eight(), 1.0), logprobs(&model, &eight(), 1.0));

    // Whatever was there before, one form is left.
    model.save(&dir).unwrap();
    assert_eq!(files(&dir), ["config.json", "generation_config.json", "model.safetensors"]);
    model.save_sharded(&dir, 400_000).unwrap();
    let names = files(&dir);
    assert!(!names.contains(&"model.safetensors".into()) && names.len() == 5, "{names:?}");
    assert_eq!(logprobs(&load(&dir, DType::F32), &eight(), 1.0), logprobs(&model, &eight(), 1.0));
    assert_eq!(files(target.path()), ["cut"], "nothing is left aside");
}

#[test]
fn a_directory_that_fails_half_way_does_not_appear() {
    let source = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    let model = load(source.path(), DType::F32);
    // A companion that cannot be copied ends the save after the weights are written.
    fs::create_dir(source.path().join("vocab.json")).unwrap();
    let target = tempfile::tempdir().unwrap();
    let error = model.save(target.path().join("model")).unwrap_err().to_string();
    assert!(error.ends_with("vocab.json: cannot read"), "{error}");
    assert!(files(target.path()).is_empty());
}

/// A link to a file keeps what it had: the file was replaced, and not written into.
#[test]
fn files_of_a_directory_that_exists_are_replaced_whole() {
    let source = ModelDir::copy(&GoldenModel::load("qwen2_tied").dir);
    source.write_tokenizer(&["?", "a"]);
    let model = load(source.path(), DType::F32);
    let target = tempfile::tempdir().unwrap();
    let names = ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"];
    for name in names {
        fs::write(target.path().join(name), "old").unwrap();
        fs::hard_link(target.path().join(name), target.path().join(format!("{name}.link")))
            .unwrap();
    }
    model.save(target.path()).unwrap();
    for name in names {
        assert_eq!(fs::read(target.path().join(format!("{name}.link"))).unwrap(), b"old", "{name}");
        assert_ne!(fs::read(target.path().join(name)).unwrap(), b"old", "{name}");
    }
    assert!(!files(target.path()).iter().any(|name| name.starts_with(".tmp")));
}
