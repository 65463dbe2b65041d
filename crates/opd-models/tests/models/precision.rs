//! Layers whose products round their operands to bf16.

use candle_core::{DType, Device};
use opd_kernels::Products;
use opd_models::{CausalLm, Checkpointing, Error, LoraConfig, LoraTarget};
use opd_testkit::GoldenModel;

use super::{eight, gradient, load, logprobs, norm};

const NAMES: [&str; 3] = ["qwen3_tied", "qwen2_tied", "llama3_rope_untied"];

fn base(name: &str, dtype: DType) -> CausalLm {
    load(&GoldenModel::load(name).dir, dtype)
}

fn rounded(name: &str) -> CausalLm {
    base(name, DType::F32).with_products(Products::Bf16).unwrap()
}

#[test]
fn scores_and_gradients_are_near_those_in_f32() {
    for name in NAMES {
        let (full, rounded) = (base(name, DType::F32), rounded(name));
        let (want, got) = (logprobs(&full, &eight(), 1.0), logprobs(&rounded, &eight(), 1.0));
        let off = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off > 0.0 && off < 0.1, "{name}: {off}");
        let weights = vec![1.0; want.len()];
        let (_, want) = gradient(&full, &eight(), &weights, Checkpointing::Off);
        let (_, got) = gradient(&rounded, &eight(), &weights, Checkpointing::Off);
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            let off: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
            assert!(norm(&off) < 0.05 * norm(want), "{name}: {} of {}", norm(&off), norm(want));
        }
        let (_, again) = gradient(&rounded, &eight(), &weights, Checkpointing::PerLayer);
        assert_eq!(got, again);
    }
}

#[test]
fn matrices_and_the_table_that_embeds_are_read_rounded() {
    for name in NAMES {
        let want = logprobs(&rounded(name), &eight(), 1.0);
        let stored = rounded(name);
        for parameter in stored.parameters().iter().filter(|p| p.var().rank() == 2) {
            let narrow = parameter.var().to_dtype(DType::BF16).unwrap();
            parameter.var().set(&narrow.to_dtype(DType::F32).unwrap()).unwrap();
        }
        assert_eq!(logprobs(&stored, &eight(), 1.0), want, "{name}");
    }
}

#[test]
fn a_sequence_has_the_same_bits_in_any_batch() {
    for name in NAMES {
        let model = rounded(name);
        let alone: Vec<f64> =
            eight().into_iter().flat_map(|pair| logprobs(&model, &[pair], 1.0)).collect();
        assert_eq!(logprobs(&model, &eight(), 1.0), alone, "{name}");
    }
}

#[test]
fn models_made_of_one_have_its_products() {
    let config =
        LoraConfig { rank: 3, alpha: 3.0, targets: LoraTarget::ALL.to_vec(), rslora: false };
    let model = rounded("qwen3_tied");
    let want = logprobs(&model, &eight(), 1.0);
    let model = model.with_lora(&config, 1).unwrap();
    assert_eq!(logprobs(&model, &eight(), 1.0), want);
    for other in [model.without_adapter(), model.with_own_adapter().unwrap()] {
        assert_eq!(other.products(), Products::Bf16);
        assert_eq!(logprobs(&other, &eight(), 1.0), want);
    }
}

#[test]
fn models_of_f64_are_refused() {
    let refused = base("qwen3_tied", DType::F64).with_products(Products::Bf16);
    assert!(matches!(refused, Err(Error::DType { got: DType::F64, .. })));
    let dir = GoldenModel::load("qwen3_tied").dir;
    let model = CausalLm::load(&dir, DType::F64, &Device::Cpu).unwrap();
    assert_eq!(model.with_products(Products::Full).unwrap().products(), Products::Full);
}
