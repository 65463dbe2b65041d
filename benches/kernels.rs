//! `cargo bench --bench kernels [-- FILTER]`: every kernel on the CPU, in GB/s and tokens/s.
//!
//! `FILTER` is a regular expression over `kernel/forward/size`, as `64x320` for a short run or
//! `^token_logprobs/.*/(512|ragged)`. Size 2048x151936 takes up to 4 GiB for one case.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use opd_benches::{Size, cases};

fn kernels(c: &mut Criterion) {
    for size in Size::all() {
        for case in cases() {
            let mut group = c.benchmark_group(case.name);
            group.sample_size(10).warm_up_time(Duration::from_millis(500));
            group.measurement_time(Duration::from_secs(2));
            group.throughput(Throughput::ElementsAndBytes {
                elements: size.tokens() as u64,
                bytes: (case.bytes)(&size) as u64,
            });
            // Inputs of cases that the filter leaves out are never made.
            let mut work = None;
            group.bench_function(BenchmarkId::from_parameter(size.name), |b| {
                let work = work.get_or_insert_with(|| (case.prepare)(&size).unwrap());
                b.iter(|| work().unwrap());
            });
            group.finish();
        }
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
