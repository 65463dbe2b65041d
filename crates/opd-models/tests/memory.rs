//! What a model takes of memory, as the system counts it. One test alone in its process.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::{collections::HashMap, fs};

use candle_core::{DType, Device, Tensor};
use opd_models::CausalLm;
use opd_testkit::{GoldenModel, ModelDir};

const MIB: f64 = 1024.0 * 1024.0;

/// MiB of this process that are in memory.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / MIB
}

#[test]
fn bf16_files_are_held_in_two_bytes_a_parameter() {
    let dir = ModelDir::copy(&GoldenModel::load("llama_tied").dir);
    dir.edit_config(|config| {
        for (key, size) in [("vocab_size", 40_000), ("hidden_size", 512), ("num_hidden_layers", 1)]
        {
            config.insert(key.into(), size.into());
        }
    });
    let path = dir.path().join("model.safetensors");
    {
        let random = CausalLm::random(dir.path(), 1, DType::F32, &Device::Cpu).unwrap();
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for parameter in random.parameters().iter() {
            let all = parameter.tensor();
            for (name, part) in parameter.split(&all) {
                let part = part.unwrap().contiguous().unwrap().to_dtype(DType::BF16).unwrap();
                tensors.insert(name.to_owned(), part);
            }
        }
        candle_core::safetensors::save(&tensors, &path).unwrap();
    }
    let before = resident();
    let stored = CausalLm::load_encoded(dir.path()).unwrap();
    let narrow = resident() - before;
    let full = CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
    let wide = resident() - before - narrow;
    let values = full.n_weights() as f64 / MIB;
    assert!(values > 19.0);
    // The allocator may hand out again what the random model had.
    assert!(narrow < 2.0 * values + 12.0, "{narrow} MiB for {values} Mi parameters");
    assert!(wide > 3.0 * values, "{wide} MiB for {values} Mi parameters");
    assert_eq!(stored.weight_bytes() as f64 / MIB, 2.0 * values + norms(&stored));
}

/// MiB that norms take beyond two bytes a value.
fn norms(model: &CausalLm) -> f64 {
    model.parameters().n_values() as f64 * 2.0 / MIB
}
