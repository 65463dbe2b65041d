//! Adapters: against `peft` (tests/data/make_lora.py), against differences, and as files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::DType;
use opd_kernels::Head;
use opd_models::{CausalLm, Checkpointing, Gradients, LoraConfig, LoraTarget};
use opd_testkit::{GoldenModel, ModelDir, assert_close, host, numbers, tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Pair, eight, gradient, gradients::variants, load, logprobs, norm};

const NAMES: [&str; 3] = ["qwen3_tied", "qwen2_tied", "llama3_rope_untied"];

/// What peft computes.
#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    log_probs: Vec<Vec<f64>>,
    log_probs_without: Vec<Vec<f64>>,
    loss: f64,
    /// Norm, and product with cos(i), by name.
    gradients: BTreeMap<String, [f64; 2]>,
    merged_sums: BTreeMap<String, f64>,
}

fn adapter(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lora").join(name)
}

fn base(name: &str, dtype: DType) -> CausalLm {
    load(&GoldenModel::load(name).dir, dtype)
}

fn expected(name: &str) -> Expected {
    serde_json::from_slice(&fs::read(adapter(name).join("expected.json")).unwrap()).unwrap()
}

/// Every token but the first as the response.
fn pairs(sequences: &[Vec<u32>]) -> Vec<Pair> {
    sequences.iter().map(|tokens| (tokens[..1].to_vec(), tokens[1..].to_vec())).collect()
}

fn config(rank: usize, targets: &[LoraTarget]) -> LoraConfig {
    LoraConfig { rank, alpha: 3.0, targets: targets.to_vec(), rslora: false }
}

/// Moves every adapter off its start.
fn shake(model: &CausalLm) {
    for (i, parameter) in model.parameters().iter().enumerate() {
        let var = parameter.var();
        let noise = numbers(var.elem_count(), 40 + i as u64, 0.1);
        let moved = (var.as_tensor() + tensor(&noise, var.dims(), model.dtype())).unwrap();
        var.set(&moved).unwrap();
    }
}

/// With adapters on every layer that are not at their start.
pub(super) fn adapted(model: CausalLm) -> CausalLm {
    let model = model.with_lora(&config(5, &LoraTarget::ALL), 1).unwrap();
    shake(&model);
    model
}

#[test]
fn forward_and_backward_are_those_of_peft() {
    for name in NAMES {
        let expected = expected(name);
        let pairs = pairs(&expected.sequences);
        for dtype in [DType::F32, DType::F64] {
            let model = base(name, dtype).with_adapter(adapter(name)).unwrap();
            assert_close(&logprobs(&model, &pairs, 1.0), &expected.log_probs.concat(), 1e-4);
            let without = logprobs(&model.without_adapter(), &pairs, 1.0);
            assert_close(&without, &expected.log_probs_without.concat(), 1e-4);
        }
        let model = base(name, DType::F64).with_adapter(adapter(name)).unwrap();
        let weights: Vec<f64> =
            pairs.iter().flat_map(|(_, r)| (0..r.len()).map(|i| (i as f64).cos())).collect();
        let mut gradients = Gradients::new(model.parameters());
        let packed = model.pack(&super::sequences(&pairs)).unwrap();
        let weights = tensor(&weights, weights.len(), DType::F64);
        let run = |hidden: &_, head: Head<'_>| {
            let scores = opd_kernels::linear_token_logprobs(hidden, head, packed.targets(), 1.0)?;
            let loss = (scores.logprobs * &weights)?.sum_all()?;
            let value = host(&loss)[0];
            Ok::<_, opd_models::Error>((loss, value))
        };
        let loss = model.differentiate(&packed, Checkpointing::Off, &mut gradients, run).unwrap();
        assert!((loss - expected.loss).abs() < 1e-4, "{name}: {loss}, not {}", expected.loss);
        let ours: BTreeMap<_, _> = super::named(&model, &gradients).into_iter().collect();
        assert_eq!(ours.keys().collect::<Vec<_>>(), expected.gradients.keys().collect::<Vec<_>>());
        for (parameter, [length, product]) in expected.gradients {
            let got = &ours[&parameter];
            let own: f64 = got.iter().enumerate().map(|(i, g)| g * (i as f64).cos()).sum();
            let (length_off, off) = ((norm(got) - length).abs(), (own - product).abs());
            assert!(
                length_off.max(off) < 1e-4 * length,
                "{name}: {parameter}: {length_off}, {off}"
            );
        }
    }
}

#[test]
fn a_merged_model_is_the_adapted_one() {
    for name in NAMES {
        let expected = expected(name);
        let model = base(name, DType::F32).with_adapter(adapter(name)).unwrap();
        let target = tempfile::tempdir().unwrap();
        let dir = target.path().join("merged");
        model.save(&dir).unwrap();
        let merged = load(&dir, DType::F32);
        let pairs = pairs(&expected.sequences);
        assert_close(&logprobs(&merged, &pairs, 1.0), &expected.log_probs.concat(), 1e-4);
        let mut sums = BTreeMap::new();
        for parameter in merged.parameters().iter() {
            let values = parameter.tensor();
            for (name, part) in parameter.split(&values) {
                sums.insert(name.to_owned(), host(&part.unwrap()).iter().sum::<f64>());
            }
        }
        for (weight, sum) in expected.merged_sums {
            assert!((sums[&weight] - sum).abs() < 1e-4, "{name}: {weight}");
        }
        // The weights below are what they were.
        let without = logprobs(&model.without_adapter(), &pairs, 1.0);
        assert_eq!(without, logprobs(&base(name, DType::F32), &pairs, 1.0));
    }
}

/// Along its own gradient `g`, the loss changes by `|g|` per unit of length.
#[test]
fn every_adapter_gets_the_gradient_that_differences_give() {
    let pairs = eight();
    let weights = numbers(pairs.iter().map(|(_, r)| r.len()).sum(), 5, 1.0);
    let some = [LoraTarget::KProj, LoraTarget::UpProj];
    for (i, (variant, model)) in variants().into_iter().enumerate() {
        let targets = if i % 2 == 0 { &LoraTarget::ALL[..] } else { &some };
        let rslora = i % 3 == 0;
        let model = model.with_lora(&LoraConfig { rslora, ..config(3, targets) }, 1).unwrap();
        shake(&model);
        let (_, gradients) = gradient(&model, &pairs, &weights, Checkpointing::Off);
        let (_, again) = gradient(&model, &pairs, &weights, Checkpointing::PerLayer);
        assert_eq!(gradients, again, "{variant}");
        assert_eq!(gradients.len(), 2 * 2 * targets.len(), "two factors in two layers");
        let mut gradients = gradients.into_iter();
        for parameter in model.parameters().iter() {
            let var = parameter.var();
            let values = host(var.as_tensor());
            let mut start = 0;
            for (name, gradient) in gradients.by_ref().take(parameter.name().split('+').count()) {
                let length = norm(&gradient);
                assert!(length > 1e-6, "{variant}: {name} gets no gradient");
                let at = |step: f64| {
                    let mut moved = values.clone();
                    for (value, g) in moved[start..].iter_mut().zip(&gradient) {
                        *value += step * g / length;
                    }
                    var.set(&tensor(&moved, var.dims(), DType::F64)).unwrap();
                    super::gradients::loss(&model, &pairs, &weights)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                let off = (slope - length).abs();
                assert!(off < 1e-6 * length.max(1.0), "{variant}: {name}: {length}, not {slope}");
                start += gradient.len();
            }
            var.set(&tensor(&values, var.dims(), DType::F64)).unwrap();
        }
    }
}

#[test]
fn new_adapters_change_nothing_and_are_a_function_of_the_seed() {
    let with = |seed| {
        base("qwen2_tied", DType::F32).with_lora(&config(4, &LoraTarget::ALL), seed).unwrap()
    };
    let model = with(3);
    let plain = base("qwen2_tied", DType::F32);
    assert_eq!(logprobs(&model, &eight(), 0.7), logprobs(&plain, &eight(), 0.7), "bit for bit");
    assert_eq!(model.n_weights(), plain.n_weights());
    let values =
        |model: &CausalLm| model.parameters().iter().map(|p| host(&p.tensor())).collect::<Vec<_>>();
    assert!(values(&model) == values(&with(3)) && values(&model) != values(&with(4)));
    for parameter in model.parameters().iter() {
        let values = host(&parameter.tensor());
        let columns = parameter.var().dims()[1] as f64;
        match parameter.name().contains("lora_A") {
            true => {
                // Uniform in +-1 / sqrt(K): the root of the mean square is a third's root of it.
                let bound = 1.0 / columns.sqrt();
                let spread = (norm(&values).powi(2) / values.len() as f64).sqrt() * 3f64.sqrt();
                assert!(values.iter().all(|x| x.abs() <= bound + 1e-7));
                assert!((spread / bound - 1.0).abs() < 0.1, "{}: {spread}", parameter.name());
            }
            false => assert!(values.iter().all(|&x| x == 0.0), "{}", parameter.name()),
        }
    }
}

#[test]
fn frozen_weights_have_no_gradient_and_others_share_them() {
    let model =
        base("qwen3_untied", DType::F32).with_lora(&config(2, &LoraTarget::ALL), 0).unwrap();
    let n: usize = model.parameters().iter().map(|p| p.var().elem_count()).sum();
    assert!(n < model.n_weights() / 8, "{n} of {}", model.n_weights());
    let (_, gradients) = gradient(&model, &eight(), &[1.0; 56], Checkpointing::Off);
    assert!(gradients.iter().all(|(name, _)| name.contains("lora_")));
    assert_eq!(gradients.iter().map(|(_, g)| g.len()).sum::<usize>(), n);

    let start = logprobs(&model, &eight(), 1.0);
    let own = model.with_own_adapter().unwrap();
    shake(&model);
    let moved = logprobs(&model, &eight(), 1.0);
    assert_ne!(moved, start);
    assert_eq!(logprobs(&own, &eight(), 1.0), start, "its adapters are its own");
    assert_eq!(logprobs(&model.without_adapter(), &eight(), 1.0), start);
    assert_eq!(logprobs(&model.with_own_adapter().unwrap(), &eight(), 1.0), moved);
    assert!(own.lora() == model.lora() && model.without_adapter().lora().is_none());
}

#[test]
fn saved_adapters_are_the_same_adapters() {
    let target = tempfile::tempdir().unwrap();
    for (name, rslora) in [("qwen3_tied", false), ("llama_tied", true)] {
        let settings =
            LoraConfig { rslora, ..config(3, &[LoraTarget::VProj, LoraTarget::GateProj]) };
        let model = base(name, DType::F32).with_lora(&settings, 3).unwrap();
        shake(&model);
        let dir = target.path().join(name);
        model.save_adapter(&dir).unwrap();
        let again = base(name, DType::F32).with_adapter(&dir).unwrap();
        assert_eq!(again.lora(), Some(&settings));
        assert_eq!(again.adapter_source(), Some(dir.as_path()));
        assert_eq!(logprobs(&again, &eight(), 1.0), logprobs(&model, &eight(), 1.0));
        let other = base(name, DType::F32).with_lora(&settings, 9).unwrap();
        other.reload_adapter(&dir).unwrap();
        assert_eq!(logprobs(&other, &eight(), 1.0), logprobs(&model, &eight(), 1.0));
        let another = base(name, DType::F32).with_lora(&config(4, &settings.targets), 9).unwrap();
        assert!(another.reload_adapter(&dir).unwrap_err().to_string().contains("rank: 3"));
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let edited = |edit: &dyn Fn(&mut Value)| {
        let dir = ModelDir::copy(&adapter("qwen2_tied"));
        let path = dir.path().join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        fs::write(&path, config.to_string()).unwrap();
        let result = base("qwen2_tied", DType::F32).with_adapter(dir.path());
        result.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(edited(&|_| {}), "");
    for (field, value) in [
        ("peft_type", json!("LOHA")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("rank_pattern", json!({"q_proj": 4})),
        ("modules_to_save", json!(["lm_head"])),
        ("layers_to_transform", json!([0])),
        ("init_lora_weights", json!("pissa")),
        ("r", json!(0)),
        ("r", json!(1u64 << 40)),
        ("lora_alpha", json!("8")),
        ("target_modules", json!(".*q_proj")),
        ("target_modules", json!(["lm_head"])),
    ] {
        let said = edited(&|config| config[field] = value.clone());
        let name = if value == json!(["lm_head"]) && field == "target_modules" {
            "lm_head"
        } else {
            field
        };
        assert!(said.contains(&format!("`{name}`")), "{field}: {said}");
    }
    let said = edited(&|config| config["r"] = 4.into());
    assert!(said.contains("has shape [3, 64]"), "{said}");
    let said = edited(&|config| config["target_modules"] = json!(["q_proj", "k_proj"]));
    assert!(said.contains("k_proj.lora_A.weight` [3, 64] is missing"), "{said}");
    let said = edited(&|config| config["target_modules"] = json!(["q_proj", "v_proj"]));
    assert!(said.contains("down_proj.lora_A.weight` is not part of"), "{said}");

    let bad = |config: LoraConfig| {
        base("qwen2_tied", DType::F32).with_lora(&config, 0).unwrap_err().to_string()
    };
    assert_eq!(bad(config(0, &LoraTarget::ALL)), "LoRA: rank must be at least 1, got 0");
    assert_eq!(bad(config(1, &[])), "LoRA: there are no target modules");
    let alpha = LoraConfig { alpha: -1.0, ..config(1, &LoraTarget::ALL) };
    assert_eq!(bad(alpha), "LoRA: alpha must be finite and above 0, got -1");
    let twice = base("qwen2_tied", DType::F32).with_lora(&config(1, &LoraTarget::ALL), 0).unwrap();
    let twice = twice.with_lora(&config(1, &LoraTarget::ALL), 0).unwrap_err().to_string();
    assert_eq!(twice, "LoRA: the model has adapters already");
}

#[test]
fn scores_and_gradients_have_the_same_bits_on_any_number_of_threads_and_in_any_batch() {
    let model = adapted(base("qwen3_tied", DType::F32));
    let all = eight();
    let weights = numbers(all.iter().map(|(_, r)| r.len()).sum(), 5, 1.0);
    opd_testkit::same_on_any_number_of_threads(|| {
        let (_, gradients) = gradient(&model, &all, &weights, Checkpointing::Off);
        gradients.into_iter().map(|(_, gradient)| gradient).collect()
    });
    let together = logprobs(&model, &all, 1.0);
    let alone = all.iter().flat_map(|pair| logprobs(&model, std::slice::from_ref(pair), 1.0));
    assert_eq!(together, alone.collect::<Vec<_>>());
}
