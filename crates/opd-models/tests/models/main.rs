//! Models beyond the golden numbers: files, forms of the config, invariance, threads, caches,
//! messages.
#![allow(clippy::unwrap_used)]

mod cache;
mod config;
mod cuts;
mod damage;
mod encoded;
mod fuzz;
mod gguf;
mod gradients;
mod invariance;
mod lora;
mod mixture;
mod precision;
mod refusal;
mod saving;
mod second_opinion;
mod shards;
mod templates;
mod tokenizer;
mod value_head;

use std::path::Path;

use candle_core::{DType, Device};
use opd_batch::ScoredSequence;
use opd_kernels::linear_token_logprobs;
use opd_models::{CausalLm, Checkpointing, Error, Gradients};
use opd_testkit::{host, numbers, tensor};

fn load(dir: impl AsRef<Path>, dtype: DType) -> CausalLm {
    CausalLm::load(dir, dtype, &Device::Cpu).unwrap()
}

/// `n` token ids below 320, the vocabulary of the golden models.
fn tokens(n: usize, seed: u64) -> Vec<u32> {
    numbers(n, seed, 160.0).into_iter().map(|x| (x + 160.0) as u32).collect()
}

/// The same sequences with ids that a smaller vocabulary holds.
fn within(vocab: usize, pairs: Vec<Pair>) -> Vec<Pair> {
    let fold = |ids: Vec<u32>| ids.into_iter().map(|id| id % vocab as u32).collect();
    pairs.into_iter().map(|(prompt, response)| (fold(prompt), fold(response))).collect()
}

/// A prompt and a response.
type Pair = (Vec<u32>, Vec<u32>);

fn sequences(pairs: &[Pair]) -> Vec<ScoredSequence<'_>> {
    pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response }).collect()
}

/// Eight sequences: three answer one prompt, two another; one response has one token.
fn eight() -> Vec<Pair> {
    let lengths = [(7, 5), (3, 9), (7, 4), (1, 12), (7, 1), (3, 2), (20, 17), (6, 6)];
    let pair = |(i, (prompt, response)): (usize, (usize, usize))| {
        let answers_another = (prompt == 7 || prompt == 3) as u64;
        let prompt_seed = if answers_another == 1 { prompt as u64 } else { 100 + i as u64 };
        (tokens(prompt, prompt_seed), tokens(response, 200 + i as u64))
    };
    lengths.into_iter().enumerate().map(pair).collect()
}

fn logprobs(model: &CausalLm, pairs: &[Pair], temperature: f64) -> Vec<f64> {
    let packed = model.pack(&sequences(pairs)).unwrap();
    host(&model.token_logprobs(&packed, temperature).unwrap().logprobs)
}

/// Adds the gradient of `sum_t weights_t (log-prob_t + entropy_t / 2)`; returns its value.
fn differentiate(
    model: &CausalLm,
    pairs: &[Pair],
    weights: &[f64],
    checkpointing: Checkpointing,
    gradients: &mut Gradients,
) -> f64 {
    let packed = model.pack(&sequences(pairs)).unwrap();
    let weights = tensor(weights, weights.len(), model.dtype());
    model
        .differentiate::<_, Error>(&packed, checkpointing, gradients, |hidden, head| {
            let scores = linear_token_logprobs(hidden, head, packed.targets(), 0.9)?;
            let tokens = (scores.logprobs + (scores.entropy * 0.5)?)?;
            let loss = (tokens * &weights)?.sum_all()?;
            let value = host(&loss)[0];
            Ok((loss, value))
        })
        .unwrap()
}

/// Loss and gradients by Hugging Face name.
fn gradient(
    model: &CausalLm,
    pairs: &[Pair],
    weights: &[f64],
    checkpointing: Checkpointing,
) -> (f64, Vec<(String, Vec<f64>)>) {
    let mut gradients = Gradients::new(model.parameters());
    let loss = differentiate(model, pairs, weights, checkpointing, &mut gradients);
    (loss, named(model, &gradients))
}

fn named(model: &CausalLm, gradients: &Gradients) -> Vec<(String, Vec<f64>)> {
    let mut all = Vec::new();
    for (parameter, gradient) in model.parameters().iter().zip(gradients.iter()) {
        let gradient = gradient.unwrap_or_else(|| panic!("{} has no gradient", parameter.name()));
        for (name, part) in parameter.split(gradient) {
            all.push((name.to_owned(), host(&part.unwrap())));
        }
    }
    all
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}
