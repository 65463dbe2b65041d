//! candle-transformers' Qwen3 on the same weights.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::qwen3::{Config, ModelForCausalLM};
use opd_batch::ScoredSequence;
use opd_testkit::{GoldenModel, assert_close, host};

use super::{load, tokens};

#[test]
fn last_logits_are_those_of_candle_transformers() {
    for name in ["qwen3_tied", "qwen3_untied"] {
        let golden = GoldenModel::load(name);
        let ours = load(&golden.dir, DType::F32);
        let c = ours.config();
        let config = Config {
            vocab_size: c.vocab_size,
            hidden_size: c.hidden_size,
            intermediate_size: c.intermediate_size,
            num_hidden_layers: c.n_layers,
            num_attention_heads: c.n_heads,
            head_dim: c.head_dim,
            attention_bias: c.qkv_bias,
            num_key_value_heads: c.n_kv_heads,
            max_position_embeddings: c.context,
            sliding_window: None,
            max_window_layers: c.n_layers,
            tie_word_embeddings: c.tie_word_embeddings,
            rope_theta: c.rope_theta,
            rms_norm_eps: c.rms_norm_eps,
            use_sliding_window: false,
            hidden_act: Activation::Silu,
        };
        let weights: HashMap<String, Tensor> =
            candle_core::safetensors::load(golden.dir.join("model.safetensors"), &Device::Cpu)
                .unwrap();
        let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let mut theirs = ModelForCausalLM::new(&config, weights).unwrap();
        for n in [1, 2, 33, 200] {
            let prompt = tokens(n, n as u64);
            theirs.clear_kv_cache();
            let input = Tensor::from_slice(&prompt, (1, n), &Device::Cpu).unwrap();
            let want = host(&theirs.forward(&input, 0).unwrap());
            let sequence = ScoredSequence { prompt: &prompt, response: &[0] };
            let hidden = ours.hidden(&ours.pack(&[sequence]).unwrap()).unwrap();
            let logits =
                hidden.matmul(&ours.head().weight.to_tensor().unwrap().t().unwrap()).unwrap();
            assert_close(&host(&logits), &want, 2e-4);
        }
    }
}
