//! What `opd generate` and `opd eval` share: how tokens are drawn, and in what portions.

use std::sync::Arc;

use clap::{Args, value_parser};
use opd_models::{Decoder, ModelConfig};
use opd_rollout::{
    Generation, InProcess, Request, RolloutEngine, Sampling, StopStrings, Strategy, Truncation,
    packed_tokens,
};

use crate::{failure::Failure, flags::positive, interrupt, log, model::Model, progress::bar};

/// Sequences side by side at most.
const MAX_SEQUENCES: usize = 256;

/// Memory of keys and values, in bytes, that a batch is fitted into.
const CACHE_BYTES: usize = 2 << 30;

const BAR: &str = "{prefix} {bar:24} {human_pos}/{human_len}  {rate}  {eta} left";

/// How tokens are drawn.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingFlags {
    /// Take the likeliest token; ties go to the lowest id
    #[arg(long, conflicts_with = "temperature")]
    greedy: bool,
    /// Draw from softmax(logits / T); above 0 [default: 1]
    #[arg(long, value_name = "T", value_parser = positive)]
    temperature: Option<f64>,
    /// Draw only from the K likeliest tokens
    #[arg(long, value_name = "K", conflicts_with = "greedy", value_parser = value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw only from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", conflicts_with = "greedy")]
    top_p: Option<f64>,
    /// Draw only from tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", conflicts_with = "greedy")]
    min_p: Option<f64>,
    /// Divide positive logits of tokens that were there before by X, and multiply negative ones
    #[arg(long, value_name = "X", value_parser = positive)]
    repetition_penalty: Option<f64>,
    /// Text that ends an answer; may be given again
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Fixes the draws: those of a line depend on the seed and its number alone
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u64))]
    seed: u64,
    /// Sequences side by side [default: what 2 GiB of keys and values hold, at most 256];
    /// results do not depend on it
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_sequences: Option<u32>,
}

impl SamplingFlags {
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn sampling(
        &self,
        model: &Model,
        max_new_tokens: usize,
        eos_token_ids: &[u32],
    ) -> anyhow::Result<Sampling> {
        let strategy = match self.greedy {
            true => Strategy::Greedy,
            false => Strategy::Random {
                temperature: self.temperature.unwrap_or(1.0),
                kept: Truncation {
                    top_k: self.top_k.map(|k| k as usize),
                    top_p: self.top_p,
                    min_p: self.min_p,
                },
            },
        };
        let stop = match self.stop.is_empty() {
            true => None,
            false => {
                let tokenizer = Arc::new(model.tokenizer()?.clone());
                Some(StopStrings::new(self.stop.clone(), tokenizer)?)
            }
        };
        let repetition_penalty = self.repetition_penalty.unwrap_or(1.0);
        let sampling = Sampling::new(strategy, max_new_tokens, eos_token_ids);
        Ok(Sampling { seed: self.seed, stop, repetition_penalty, ..sampling })
    }

    /// `greedy`, or `temperature 0.7, top_p 0.9`.
    pub(crate) fn describe(&self) -> String {
        let mut said = match self.greedy {
            true => "greedy".to_owned(),
            false => format!("temperature {}", self.temperature.unwrap_or(1.0)),
        };
        let top_k = self.top_k.map(f64::from);
        for (name, value) in [
            ("top_k", top_k),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("repetition_penalty", self.repetition_penalty),
        ] {
            if let Some(value) = value {
                said.push_str(&format!(", {name} {value}"));
            }
        }
        said
    }

    /// Generates portion by portion; `take` gets each request's index and generation, in order.
    pub(crate) fn generate(
        &self,
        model: &Model,
        requests: &[Request],
        sampling: &Sampling,
        quiet: bool,
        mut take: impl FnMut(usize, Generation) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
        let config = model.lm.config();
        let rows = (longest + sampling.max_new_tokens).min(config.context);
        let at_once = self.max_sequences.map_or_else(|| fitting(config, rows), |n| n as usize);
        let decoder = match sampling.max_new_tokens >= packed_tokens(model.lm.products()) {
            true => Decoder::packed(&model.lm)?,
            false => Decoder::new(&model.lm),
        };
        let engine = InProcess::through(&decoder, at_once);
        let portion = 16 * at_once;
        let bar = (!quiet).then(|| bar(requests.len() as u64, BAR, "sampling"));
        for (i, requests) in requests.chunks(portion).enumerate() {
            if interrupt::pressed() {
                return Err(Failure::Interrupted("nothing was written".to_owned()).into());
            }
            for (j, generation) in engine.generate(requests, sampling)?.into_iter().enumerate() {
                take(i * portion + j, generation)?;
            }
            if let Some(bar) = &bar {
                bar.inc(requests.len() as u64);
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
            log::bars().remove(&bar);
        }
        Ok(())
    }
}

/// How many sequences of `rows` tokens have room in [`CACHE_BYTES`].
fn fitting(config: &ModelConfig, rows: usize) -> usize {
    let row = 2 * config.n_layers * config.n_kv_heads * config.head_dim * size_of::<f32>();
    (CACHE_BYTES / (row * rows).max(1)).clamp(1, MAX_SEQUENCES)
}
