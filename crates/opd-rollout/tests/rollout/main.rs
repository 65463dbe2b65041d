//! Sampling and prompts: exact log-probs, right frequencies, sequences that do not see their
//! batch, and messages.
#![allow(clippy::unwrap_used)]

mod endings;
mod exactness;
mod guided;
mod independence;
mod refusal;
mod stops;
mod truncation;

use candle_core::{DType, Device};
use opd_models::CausalLm;
use opd_rollout::{Generation, InProcess, Request, RolloutEngine, Sampling};
use opd_testkit::{GoldenModel, numbers};

fn load(name: &str) -> CausalLm {
    CausalLm::load(GoldenModel::load(name).dir, DType::F32, &Device::Cpu).unwrap()
}

/// `n` token ids below 320, the vocabulary of the golden models.
fn tokens(n: usize, seed: u64) -> Vec<u32> {
    numbers(n, seed, 160.0).into_iter().map(|x| (x + 160.0) as u32).collect()
}

/// Requests with prompts of several lengths, most of them asked more than once.
fn requests() -> Vec<Request> {
    (0..14u64)
        .map(|i| {
            let prompt = i % 5;
            Request { prompt: tokens(1 + 4 * prompt as usize, prompt), stream: 100 + i }
        })
        .collect()
}

fn generate(
    model: &CausalLm,
    max_sequences: usize,
    requests: &[Request],
    sampling: &Sampling,
) -> Vec<Generation> {
    InProcess::new(model, max_sequences).generate(requests, sampling).unwrap()
}

/// Ends responses of several lengths: 30 of 320 ids end one.
fn sampling(temperature: f64) -> Sampling {
    Sampling::at_temperature(temperature, 12, &(0..30).collect::<Vec<_>>())
}
