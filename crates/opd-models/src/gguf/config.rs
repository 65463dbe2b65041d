use std::f64::consts::PI;

use serde_json::{Map, Value, json};

use super::Gguf;
use crate::{Result, architecture::Bias};

/// What llama.cpp's converter takes for Llama 3.1 and 3.2, of which the file has the result only.
const LLAMA3: Llama3 = Llama3 { low: 1.0, high: 4.0, original: 8192 };

struct Llama3 {
    low: f64,
    high: f64,
    original: u32,
}

impl Gguf {
    /// The `config.json` (of transformers 5) that says what the metadata say.
    pub(super) fn config(&self) -> Result<Map<String, Value>> {
        let architecture = self.architecture()?;
        let family = architecture.family();
        let prefix = family.gguf.unwrap_or_default();
        let key = |name: &str| format!("{prefix}.{name}");
        let size = |name: &str| match self.whole(&key(name)) {
            Some(size) => Ok(size),
            None => self.bad(format!("{prefix}.{name} must be a whole number")),
        };
        if self.whole(&key("expert_count")).is_some_and(|n| n > 0) {
            return self.bad("mixtures of experts are read from Hugging Face directories alone");
        }
        let Some(embedding) = self.shape("token_embd.weight") else {
            return self.bad("tensor `token_embd.weight` is missing");
        };
        let [heads, kv_heads] = self.heads()?;
        let width = size("embedding_length")?;
        let head_dim = match self.whole(&key("attention.key_length")) {
            Some(dim) => dim,
            None => width / (heads as u64).max(1),
        };
        if self.whole(&key("attention.value_length")).is_some_and(|value| value != head_dim) {
            return self.bad("values of another width than keys are not supported");
        }
        let has = |name: &str| self.content.tensor_infos.contains_key(name);
        let mut rope = self.rope(prefix, head_dim)?;
        if let Some(rotated) = self.whole(&key("rope.dimension_count")).filter(|&n| n != head_dim) {
            rope.insert("partial_rotary_factor".into(), json!(rotated as f64 / head_dim as f64));
        }
        let mut config = json!({
            "architectures": [architecture.name()],
            "model_type": family.model_type,
            "vocab_size": embedding.first(),
            "hidden_size": width,
            "intermediate_size": size("feed_forward_length")?,
            "num_hidden_layers": size("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": size("context_length")?,
            "rms_norm_eps": self.number(&key("attention.layer_norm_rms_epsilon")),
            "rope_parameters": rope,
            "tie_word_embeddings": !has("output.weight"),
            "dtype": "float32",
            "bos_token_id": self.whole("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.end_ids()?,
        });
        if let Some(window) = self.whole(&key("attention.sliding_window")).filter(|&n| n > 0) {
            config["sliding_window"] = json!(window);
            config["use_sliding_window"] = json!(true);
        }
        for (bias, tensor) in
            [(&family.qkv_bias, "blk.0.attn_q.bias"), (&family.mlp_bias, "blk.0.ffn_gate.bias")]
        {
            if let Bias::If(field) = bias {
                config[*field] = json!(has(tensor));
            }
        }
        match config {
            Value::Object(fields) => Ok(fields),
            _ => self.bad("the metadata give no config"),
        }
    }

    /// `rope_parameters`.
    fn rope(&self, prefix: &str, head_dim: u64) -> Result<Map<String, Value>> {
        let key = |name: &str| format!("{prefix}.rope.{name}");
        let theta = self.number(&key("freq_base")).unwrap_or(10_000.0);
        let mut rope = Map::new();
        rope.insert("rope_theta".into(), json!(theta));
        let kind = match self.string(&key("scaling.type")) {
            None | Some("none") => "default",
            Some(kind) => kind,
        };
        let factor = self.number(&key("scaling.factor"));
        if let Some(other) = self.number(&key("scaling.attn_factor")).filter(|&x| x != 1.0) {
            return self.bad(format!("{prefix}.rope.scaling.attn_factor is {other}; supported: 1"));
        }
        rope.insert("rope_type".into(), json!(kind));
        if kind != "default" {
            rope.insert("factor".into(), json!(factor));
        }
        if let Some(original) = self.whole(&key("scaling.original_context_length")) {
            rope.insert("original_max_position_embeddings".into(), json!(original));
        }
        if let Some(factors) = self.rope_factors()? {
            let factor = llama3_factor(&factors, theta, head_dim);
            let Some(factor) = factor.filter(|_| kind == "default") else {
                return self.bad(
                    "the factors of `rope_freqs.weight` are not those of Llama 3.1 or 3.2, \
                     and other ones are not supported",
                );
            };
            rope.insert("rope_type".into(), json!("llama3"));
            rope.insert("factor".into(), json!(factor));
            rope.insert("low_freq_factor".into(), json!(LLAMA3.low));
            rope.insert("high_freq_factor".into(), json!(LLAMA3.high));
            rope.insert("original_max_position_embeddings".into(), json!(LLAMA3.original));
        }
        Ok(rope)
    }
}

/// The `factor` of Llama 3's scaling that gives these factors, if one does.
fn llama3_factor(factors: &[f64], theta: f64, head_dim: u64) -> Option<f64> {
    let Llama3 { low, high, original } = LLAMA3;
    // The file has single precision: 7.9999995 is 8.
    let factor = (factors.iter().copied().fold(1.0, f64::max) * 1e4).round() / 1e4;
    let matches = factors.iter().enumerate().all(|(i, &got)| {
        let frequency = theta.powf(-2.0 * i as f64 / head_dim as f64);
        let turns = f64::from(original) * frequency / (2.0 * PI);
        let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        let want = 1.0 / ((1.0 - kept) / factor + kept);
        (got - want).abs() <= 1e-4 * want
    });
    (matches && factors.len() as u64 == head_dim / 2).then_some(factor)
}
