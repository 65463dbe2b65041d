//! `cargo bench --bench logprob`: log-probs of 512 tokens over a vocabulary of 49,152, forward
//! and with backward, beside plain candle.
#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opd_core::kernels::{linear_token_logprobs, reference, token_logprobs};

const TOKENS: usize = 512;
const VOCAB: usize = 49_152;
const WIDTH: usize = 576;

fn logprob(c: &mut Criterion) {
    let device = Device::Cpu;
    let logits = Var::randn(0f32, 3.0, (TOKENS, VOCAB), &device).unwrap();
    let ids: Vec<u32> = (0..TOKENS as u32).map(|t| t * 7919 % VOCAB as u32).collect();
    let ids = Tensor::from_vec(ids, TOKENS, &device).unwrap();

    let mut group = c.benchmark_group("logprob");
    group.sample_size(10).throughput(Throughput::Elements(TOKENS as u64));
    group.bench_function("fused/forward", |b| {
        b.iter(|| token_logprobs(&logits.as_detached_tensor(), &ids, 1.0).unwrap());
    });
    group.bench_function("plain/forward", |b| {
        b.iter(|| reference::token_logprobs(&logits.as_detached_tensor(), &ids, 1.0).unwrap());
    });
    group.bench_function("fused/backward", |b| {
        b.iter(|| {
            let scores = token_logprobs(&logits, &ids, 1.0).unwrap();
            scores.logprobs.sum_all().unwrap().backward().unwrap()
        });
    });
    group.bench_function("plain/backward", |b| {
        b.iter(|| {
            let scores = reference::token_logprobs(&logits, &ids, 1.0).unwrap();
            scores.logprobs.sum_all().unwrap().backward().unwrap()
        });
    });
    drop(logits);

    let hidden = Var::randn(0f32, 1.0, (TOKENS, WIDTH), &device).unwrap();
    let head = Var::randn(0f32, 0.05, (VOCAB, WIDTH), &device).unwrap();
    group.bench_function("fused_linear/forward", |b| {
        let (hidden, head) = (hidden.as_detached_tensor(), head.as_detached_tensor());
        b.iter(|| linear_token_logprobs(&hidden, &head, &ids, 1.0).unwrap());
    });
    group.bench_function("fused_linear/backward", |b| {
        b.iter(|| {
            let scores = linear_token_logprobs(&hidden, &head, &ids, 1.0).unwrap();
            scores.logprobs.sum_all().unwrap().backward().unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, logprob);
criterion_main!(benches);
