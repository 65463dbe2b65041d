use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// A tiny checkpoint with random weights and what transformers computes with it
/// (`models/make.py`; the first five by transformers 5.23, unchanged since).
#[derive(Debug, Deserialize)]
pub struct GoldenModel {
    /// Its directory.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Token ids.
    pub sequences: Vec<Vec<u32>>,
    /// How many of each sequence's tokens are prompt.
    pub prompt_lengths: Vec<usize>,
    /// Temperature of `log_probs_at_temperature`.
    pub temperature: f64,
    /// One per sequence.
    pub cases: Vec<GoldenCase>,
    /// Sum over sequences of the mean PPO loss of the response tokens.
    #[serde(default)]
    pub ppo_loss_sum_of_sample_means: f64,
    /// Lower and upper clip.
    pub eps_clip: [f64; 2],
    /// Norm of the loss's gradient by parameter.
    #[serde(default)]
    pub grad_norms: BTreeMap<String, f64>,
    /// Norm over all parameters.
    #[serde(default)]
    pub grad_norm_total: f64,
    /// Log-probs of sequence 1 after one AdamW step (lr 1e-2, betas 0.9 and 0.98, eps 1e-8,
    /// weight decay 0.1 on everything, no clipping).
    #[serde(default)]
    pub log_probs_after_adamw_step_sequence_1: Vec<f64>,
    /// Greedy continuation of sequence 0, end-of-sequence ignored.
    pub greedy_from_sequence_0: Vec<u32>,
}

/// Expected values of one sequence.
#[derive(Debug, Deserialize)]
pub struct GoldenCase {
    /// Log-probs of the tokens from the second on.
    pub log_probs: Vec<f64>,
    /// The same at [`GoldenModel::temperature`].
    pub log_probs_at_temperature: Vec<f64>,
    /// Entropies of the distributions of those tokens.
    pub entropy: Vec<f64>,
    /// Old log-probs of the response tokens.
    pub old_log_probs: Vec<f64>,
    /// Advantages of the response tokens.
    pub advantages: Vec<f64>,
}

impl GoldenModel {
    /// Three architectures, tied and not.
    pub const NAMES: [&str; 5] =
        ["qwen3_tied", "qwen3_untied", "qwen2_tied", "llama_tied", "llama3_rope_untied"];

    /// Smaller ones: every other architecture that is trained, and every form of its config.
    pub const FURTHER: [&str; 6] =
        ["mistral", "llama_linear", "llama_yarn", "qwen3_yarn", "qwen25", "smollm2"];

    /// Mixtures of experts: what needs a gradient is missing.
    pub const MIXTURES: [&str; 2] = ["qwen3_moe", "qwen3_moe_plain"];

    /// Reads a checkpoint's expectations.
    pub fn load(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
        let text = fs::read_to_string(dir.join("expected.json")).unwrap();
        Self { dir, ..serde_json::from_str(&text).unwrap() }
    }

    /// Those of [`GoldenModel::NAMES`] and [`GoldenModel::FURTHER`].
    pub fn trainable() -> impl Iterator<Item = Self> {
        Self::NAMES.into_iter().chain(Self::FURTHER).map(Self::load)
    }

    /// Those of [`GoldenModel::MIXTURES`].
    pub fn mixtures() -> impl Iterator<Item = Self> {
        Self::MIXTURES.into_iter().map(Self::load)
    }

    /// Those of [`GoldenModel::NAMES`].
    pub fn all() -> impl Iterator<Item = Self> {
        Self::NAMES.into_iter().map(Self::load)
    }
}
