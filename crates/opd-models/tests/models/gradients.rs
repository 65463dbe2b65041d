//! Every parameter of every architecture, with and without biases and tied head.

use candle_core::{DType, Device};
use opd_batch::ScoredSequence;
use opd_models::{CausalLm, Checkpointing, Error, Gradients};
use opd_testkit::{GoldenModel, ModelDir, host, numbers, tensor};

use super::{Pair, eight, gradient, norm};

/// Random models in f64 of each kind, their biases and norms moved off 0 and 1.
pub(super) fn variants() -> Vec<(String, CausalLm)> {
    let mut models = Vec::new();
    for name in ["qwen3_tied", "qwen2_tied", "llama_tied"] {
        for tied in [true, false] {
            for biases in [false, true] {
                let dir = ModelDir::copy(&GoldenModel::load(name).dir);
                dir.edit_config(|config| {
                    config.insert("tie_word_embeddings".into(), tied.into());
                    config.insert("attention_bias".into(), biases.into());
                    config.insert("mlp_bias".into(), biases.into());
                    config.insert("num_hidden_layers".into(), 2.into());
                    config.remove("layer_types");
                    config.insert("initializer_range".into(), 0.2.into());
                });
                let model = CausalLm::random(dir.path(), 7, DType::F64, &Device::Cpu).unwrap();
                for (i, parameter) in model.parameters().iter().enumerate() {
                    let var = parameter.var();
                    let noise = numbers(var.elem_count(), i as u64, 0.1);
                    let moved = (var.as_tensor() + tensor(&noise, var.dims(), DType::F64)).unwrap();
                    var.set(&moved).unwrap();
                }
                models.push((format!("{name}, tied {tied}, biases {biases}"), model));
            }
        }
    }
    models
}

pub(super) fn loss(model: &CausalLm, pairs: &[Pair], weights: &[f64]) -> f64 {
    let packed = model.pack(&super::sequences(pairs)).unwrap();
    let scores = model.token_logprobs(&packed, 0.9).unwrap();
    let tokens = host(&scores.logprobs).into_iter().zip(host(&scores.entropy));
    tokens.zip(weights).map(|((logprob, entropy), weight)| weight * (logprob + entropy / 2.0)).sum()
}

/// Along its own gradient `g`, the loss changes by `|g|` per unit of length.
#[test]
fn every_parameter_gets_the_gradient_that_differences_give() {
    let pairs = eight();
    let n = pairs.iter().map(|(_, response)| response.len()).sum();
    let weights = numbers(n, 5, 1.0);
    for (variant, model) in variants() {
        let (_, gradients) = gradient(&model, &pairs, &weights, Checkpointing::Off);
        let biased = gradients.iter().filter(|(name, _)| name.ends_with(".bias")).count();
        let per_layer = match (variant.contains("qwen2"), variant.ends_with("true")) {
            (true, _) => 3,
            (false, false) => 0,
            (false, true) if variant.contains("llama") => 7,
            (false, true) => 4,
        };
        assert_eq!(biased, 2 * per_layer, "{variant}");
        let mut gradients = gradients.into_iter();
        for parameter in model.parameters().iter() {
            let var = parameter.var();
            let values = host(var.as_tensor());
            let n_parts = parameter.name().split('+').count();
            let mut start = 0;
            for (name, gradient) in gradients.by_ref().take(n_parts) {
                let length = norm(&gradient);
                assert!(length > 1e-6, "{variant}: {name} gets no gradient");
                let at = |step: f64| {
                    let mut moved = values.clone();
                    for (value, g) in moved[start..].iter_mut().zip(&gradient) {
                        *value += step * g / length;
                    }
                    var.set(&tensor(&moved, var.dims(), DType::F64)).unwrap();
                    loss(&model, &pairs, &weights)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                let off = (slope - length).abs();
                assert!(off < 1e-6 * length.max(1.0), "{variant}: {name}: {length}, not {slope}");
                start += gradient.len();
            }
            var.set(&tensor(&values, var.dims(), DType::F64)).unwrap();
        }
        assert!(gradients.next().is_none());
    }
}

#[test]
fn gradients_add_up_and_their_norm_names_what_is_not_finite() {
    let model = super::load(&GoldenModel::load("qwen3_tied").dir, DType::F64);
    let pairs = eight();
    let weights = numbers(pairs.iter().map(|(_, response)| response.len()).sum(), 5, 1.0);
    let gather = |weights: &[f64]| {
        let mut gradients = Gradients::new(model.parameters());
        super::differentiate(&model, &pairs, weights, Checkpointing::Off, &mut gradients);
        gradients
    };
    let mut twice = gather(&weights);
    let once = twice.norm(model.parameters()).unwrap();
    let by_hand: f64 = super::named(&model, &twice).iter().map(|(_, g)| norm(g).powi(2)).sum();
    assert!((once - by_hand.sqrt()).abs() < 1e-12 * once);
    twice.add(gather(&weights)).unwrap();
    assert!((twice.norm(model.parameters()).unwrap() - 2.0 * once).abs() < 1e-12 * once);
    let mut bad = weights;
    bad[3] = f64::NAN;
    let error = gather(&bad).norm(model.parameters()).unwrap_err();
    assert_eq!(error.to_string(), "gradient of `model.embed_tokens.weight` is not finite");
}

#[test]
fn a_loss_must_be_one_number_that_depends_on_the_model() {
    let model = super::load(&GoldenModel::load("llama_tied").dir, DType::F32);
    let packed = model.pack(&[ScoredSequence { prompt: &[1, 2], response: &[3, 4] }]).unwrap();
    let run = |scalar: bool, attached: bool| {
        let mut gradients = Gradients::new(model.parameters());
        let result = model.differentiate::<(), Error>(
            &packed,
            Checkpointing::Off,
            &mut gradients,
            |hidden, _| {
                let hidden = if attached { hidden.clone() } else { hidden.detach() };
                Ok((if scalar { hidden.sum_all()? } else { hidden.sum(1)? }, ()))
            },
        );
        result.map_err(|error| error.to_string())
    };
    run(true, true).unwrap();
    assert_eq!(
        run(false, true).unwrap_err(),
        "the loss must be a scalar, got shape [2]; sum or average it"
    );
    assert_eq!(
        run(true, false).unwrap_err(),
        "the loss has no gradient for the hidden states; compute it from the tensors that the closure is given"
    );
}
