//! `cargo bench --bench losses`: loss and gradient of 64 responses of 512 tokens.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use candle_core::{Device, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opd_core::{
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch},
    loss::{
        Aggregation, Cispo, Gspo, ImportanceSampling, LossBatch, PolicyLoss, PpoClip, Reinforce,
    },
};

const ROWS: usize = 64;
const TOKENS: usize = 512;

fn losses(c: &mut Criterion) {
    let rollouts = (0..ROWS).map(|_| Rollout {
        prompt: vec![1; 64],
        response: vec![2; TOKENS],
        sampler_logprobs: (0..TOKENS).map(|t| -0.5 - 0.001 * t as f32).collect(),
        ..Rollout::default()
    });
    let rollouts = RolloutBatch::from_rollouts(rollouts.collect()).unwrap();
    let scored = ScoredBatch::from_sampler(&rollouts);
    let advantages = (0..ROWS * TOKENS).map(|t| ((t % 7) as f32 - 3.0) / 3.0);
    let advantages =
        Ragged::new("advantages", rollouts.rows().clone(), advantages.collect()).unwrap();
    let batch = LossBatch::new(&scored, advantages, &Aggregation::default()).unwrap();
    let student: Vec<f32> =
        rollouts.sampler_logprobs().values().iter().map(|logprob| logprob * 1.1).collect();
    let student = Var::from_slice(&student, student.len(), &Device::Cpu).unwrap();

    let cases: [(&str, Box<dyn PolicyLoss>); 5] = [
        ("importance_sampling", Box::new(ImportanceSampling)),
        ("reinforce", Box::new(Reinforce)),
        ("ppo_clip", Box::new(PpoClip::default())),
        ("gspo", Box::new(Gspo::default())),
        ("cispo", Box::new(Cispo::default())),
    ];
    let mut group = c.benchmark_group("losses");
    group.throughput(Throughput::Elements((ROWS * TOKENS) as u64));
    for (name, loss) in cases {
        group.bench_function(name, |b| {
            b.iter(|| {
                let output = loss.loss(black_box(&student), &batch).unwrap();
                output.loss.backward().unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, losses);
criterion_main!(benches);
