//! `cargo bench --bench estimators`: advantages of batches of 512-token responses.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use opd_core::{
    TeacherScores,
    advantage::{AdvantageEstimator, Gae, Grpo, ReinforcePlusPlus, ReverseKl},
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch},
};

const TOKENS: usize = 512;

fn batch(n_rows: usize) -> RolloutBatch {
    let rollouts = (0..n_rows).map(|row| Rollout {
        prompt: vec![1; 64],
        response: vec![2; TOKENS],
        sampler_logprobs: (0..TOKENS).map(|t| -0.5 - 0.001 * t as f32).collect(),
        reward: (row % 3) as f32,
        group: (row / 8) as u32,
        ..Rollout::default()
    });
    RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
}

fn estimators(c: &mut Criterion) {
    for n_rows in [64, 1024] {
        let rollouts = batch(n_rows);
        let stream = |value: f32| Ragged::filled(rollouts.rows().clone(), value);
        let scored = ScoredBatch::from_sampler(&rollouts)
            .with_teacher(TeacherScores::complete(stream(-0.7)).unwrap())
            .unwrap()
            .with_values(stream(0.1))
            .unwrap();
        let cases: [(&str, Box<dyn AdvantageEstimator>); 5] = [
            ("reverse_kl", Box::new(ReverseKl::default())),
            ("reverse_kl_discounted", Box::new(ReverseKl { coef: 1.0, discount: 0.9 })),
            ("grpo_plus_reverse_kl", Box::new(Grpo.plus(ReverseKl::default()))),
            ("gae", Box::new(Gae::default())),
            ("reinforce_plus_plus_whitened", Box::new(ReinforcePlusPlus::default().whitened())),
        ];
        let mut group = c.benchmark_group("estimators");
        group.throughput(Throughput::Elements((n_rows * TOKENS) as u64));
        for (name, estimator) in cases {
            group.bench_with_input(BenchmarkId::new(name, n_rows), &scored, |b, scored| {
                b.iter(|| estimator.advantages(black_box(scored)).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, estimators);
criterion_main!(benches);
