//! The tiny checkpoints against what transformers computes with them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use opd_batch::ScoredSequence;
use opd_kernels::{AdamWStep, adamw_step, linear_token_logprobs};
use opd_models::{CausalLm, Checkpointing, Error, Gradients, Packed};
use opd_testkit::{GoldenModel, assert_close};

fn load(golden: &GoldenModel, dtype: DType) -> CausalLm {
    CausalLm::load(&golden.dir, dtype, &Device::Cpu).unwrap()
}

fn pack(model: &CausalLm, golden: &GoldenModel, prompt_lengths: &[usize]) -> Packed {
    let pairs = golden.sequences.iter().zip(prompt_lengths);
    let sequences: Vec<_> = pairs
        .map(|(tokens, &n)| ScoredSequence { prompt: &tokens[..n], response: &tokens[n..] })
        .collect();
    model.pack(&sequences).unwrap()
}

fn f64s(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn column(golden: &GoldenModel, of: impl Fn(&opd_testkit::GoldenCase) -> &Vec<f64>) -> Vec<f64> {
    golden.cases.iter().flat_map(|case| of(case).clone()).collect()
}

#[test]
fn log_probs_and_entropies() {
    for golden in GoldenModel::trainable() {
        for dtype in [DType::F32, DType::F64] {
            let model = load(&golden, dtype);
            let packed = pack(&model, &golden, &[1, 1, 1]);
            let scores = model.token_logprobs(&packed, 1.0).unwrap();
            assert_close(&f64s(&scores.logprobs), &column(&golden, |case| &case.log_probs), 1e-4);
            assert_close(&f64s(&scores.entropy), &column(&golden, |case| &case.entropy), 1e-4);
            let scores = model.token_logprobs(&packed, golden.temperature).unwrap();
            let expected = column(&golden, |case| &case.log_probs_at_temperature);
            assert_close(&f64s(&scores.logprobs), &expected, 1e-4);
        }
    }
}

#[test]
fn greedy_tokens() {
    for golden in GoldenModel::trainable() {
        let model = load(&golden, DType::F32);
        let mut tokens = golden.sequences[0].clone();
        for _ in &golden.greedy_from_sequence_0 {
            let sequence = ScoredSequence { prompt: &tokens, response: &[0] };
            let hidden = model.hidden(&model.pack(&[sequence]).unwrap()).unwrap();
            let logits =
                hidden.matmul(&model.head().weight.to_tensor().unwrap().t().unwrap()).unwrap();
            tokens.push(logits.argmax(D::Minus1).unwrap().to_vec1::<u32>().unwrap()[0]);
        }
        assert_eq!(tokens[golden.sequences[0].len()..], golden.greedy_from_sequence_0);
    }
}

fn ppo_gradient(
    model: &CausalLm,
    golden: &GoldenModel,
    checkpointing: Checkpointing,
) -> (f64, Gradients) {
    let packed = pack(model, golden, &golden.prompt_lengths);
    let weights = golden.cases.iter().flat_map(|case| {
        let n = case.advantages.len();
        std::iter::repeat_n(1.0 / n as f64, n)
    });
    let vector = |values: Vec<f64>| {
        let n = values.len();
        Tensor::from_vec(values, n, &Device::Cpu).unwrap().to_dtype(model.dtype()).unwrap()
    };
    let (weights, old) =
        (vector(weights.collect()), vector(column(golden, |case| &case.old_log_probs)));
    let advantages = vector(column(golden, |case| &case.advantages));
    let [below, above] = golden.eps_clip;
    let mut gradients = Gradients::new(model.parameters());
    let loss =
        model.differentiate::<_, Error>(&packed, checkpointing, &mut gradients, |hidden, head| {
            let scores = linear_token_logprobs(hidden, head, packed.targets(), 1.0)?;
            let ratio = (scores.logprobs - &old)?.exp()?;
            let plain = (&ratio * &advantages)?;
            let clipped = (ratio.clamp(1.0 - below, 1.0 + above)? * &advantages)?;
            let loss = (plain.minimum(&clipped)?.neg()? * &weights)?.sum_all()?;
            let value = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            Ok((loss, value))
        });
    (loss.unwrap(), gradients)
}

fn norms(model: &CausalLm, gradients: &Gradients) -> BTreeMap<String, f64> {
    let mut norms = BTreeMap::new();
    for (parameter, gradient) in model.parameters().iter().zip(gradients.iter()) {
        let gradient = gradient.unwrap_or_else(|| panic!("{} has no gradient", parameter.name()));
        for (name, part) in parameter.split(gradient) {
            let squares = part.unwrap().to_dtype(DType::F64).unwrap().sqr().unwrap();
            norms.insert(
                name.to_owned(),
                squares.sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt(),
            );
        }
    }
    norms
}

#[test]
fn loss_gradient_norms_and_adamw_step() {
    for golden in GoldenModel::trainable() {
        for (dtype, checkpointing) in [
            (DType::F32, Checkpointing::Off),
            (DType::F32, Checkpointing::PerLayer),
            (DType::F64, Checkpointing::Off),
        ] {
            let model = load(&golden, dtype);
            let (loss, gradients) = ppo_gradient(&model, &golden, checkpointing);
            assert_close(&[loss], &[golden.ppo_loss_sum_of_sample_means], 1e-4);
            let norms = norms(&model, &gradients);
            assert_eq!(
                norms.keys().collect::<Vec<_>>(),
                golden.grad_norms.keys().collect::<Vec<_>>()
            );
            for (name, expected) in &golden.grad_norms {
                let got = norms[name];
                assert!((got - expected).abs() <= 1e-3 * expected, "{name}: {got}, not {expected}");
                assert!(got > 0.0, "{name} gets no gradient");
            }
            let total = gradients.norm(model.parameters()).unwrap();
            assert_close(&[total], &[golden.grad_norm_total], 1e-3 * golden.grad_norm_total);

            let settings = AdamWStep {
                lr: 1e-2,
                beta1: 0.9,
                beta2: 0.98,
                eps: 1e-8,
                weight_decay: 0.1,
                gradient_scale: 1.0,
                step: 1,
            };
            for (parameter, gradient) in model.parameters().iter().zip(gradients.iter()) {
                let (values, gradient) = (parameter.tensor(), gradient.unwrap());
                let zeros = || values.zeros_like().unwrap();
                adamw_step(&values, gradient, &zeros(), &zeros(), &settings).unwrap();
            }
            let packed = pack(&model, &golden, &[1, 1, 1]);
            let scores = model.token_logprobs(&packed, 1.0).unwrap();
            let from = golden.sequences[0].len() - 1;
            let got = &f64s(&scores.logprobs)[from..][..golden.sequences[1].len() - 1];
            assert_close(got, &golden.log_probs_after_adamw_step_sequence_1, 1e-3);
        }
    }
}
