//! Mixtures of experts: run as transformers runs them, and not trained.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor};
use opd_batch::ScoredSequence;
use opd_models::{CausalLm, Checkpointing, Error, Gradients};
use opd_testkit::{GoldenModel, ModelDir, assert_close, host};

use super::{load, sequences};

#[test]
fn scores_and_greedy_tokens_are_those_of_transformers() {
    for golden in GoldenModel::mixtures() {
        for dtype in [DType::F32, DType::F64] {
            let model = load(&golden.dir, dtype);
            for (tokens, case) in golden.sequences.iter().zip(&golden.cases) {
                let packed = model
                    .pack(&[ScoredSequence { prompt: &tokens[..1], response: &tokens[1..] }])
                    .unwrap();
                let scores = model.token_logprobs(&packed, 1.0).unwrap();
                assert_close(&host(&scores.logprobs), &case.log_probs, 1e-4);
                assert_close(&host(&scores.entropy), &case.entropy, 1e-4);
                let scores = model.token_logprobs(&packed, golden.temperature).unwrap();
                assert_close(&host(&scores.logprobs), &case.log_probs_at_temperature, 1e-4);
            }
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
}

#[test]
fn a_token_does_not_depend_on_its_neighbours() {
    for golden in GoldenModel::mixtures() {
        let model = load(&golden.dir, DType::F32);
        let pairs: Vec<_> =
            golden.sequences.iter().map(|ids| (ids[..2].to_vec(), ids[2..].to_vec())).collect();
        let score = |pairs: &[(Vec<u32>, Vec<u32>)]| {
            let packed = model.pack(&sequences(pairs)).unwrap();
            host(&model.token_logprobs(&packed, 1.0).unwrap().logprobs)
        };
        let alone: Vec<f64> = pairs.iter().flat_map(|p| score(std::slice::from_ref(p))).collect();
        assert_eq!(score(&pairs), alone);
    }
}

#[test]
fn it_cannot_be_trained() {
    let golden = GoldenModel::load("qwen3_moe");
    let model = load(&golden.dir, DType::F32);
    let packed = model.pack(&[ScoredSequence { prompt: &[5, 6], response: &[7] }]).unwrap();
    let mut gradients = Gradients::new(model.parameters());
    let error = model
        .differentiate::<(), Error>(&packed, Checkpointing::Off, &mut gradients, |_, _| {
            unreachable!("refused before")
        })
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Qwen3MoeForCausalLM cannot be trained, for it has no backward; take it as a teacher"
    );
}

#[test]
fn it_is_saved_and_a_missing_expert_is_named() {
    let golden = GoldenModel::load("qwen3_moe_plain");
    let model = load(&golden.dir, DType::F32);
    let saved = tempfile::tempdir().unwrap();
    model.save(saved.path()).unwrap();
    let tensors = |dir: &std::path::Path| -> HashMap<String, Tensor> {
        candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap()
    };
    let (want, got) = (tensors(&golden.dir), tensors(saved.path()));
    assert_eq!(want.len(), got.len());
    assert!(want.iter().all(|(name, values)| host(values) == host(&got[name])));

    let dir = ModelDir::copy(&golden.dir);
    let name = "model.layers.1.mlp.experts.3.up_proj.weight";
    let mut fewer = want;
    fewer.remove(name).unwrap();
    candle_core::safetensors::save(&fewer, dir.path().join("model.safetensors")).unwrap();
    let error = CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert_eq!(error, format!("{}: tensor `{name}` [32, 32] is missing", dir.path().display()));
}
