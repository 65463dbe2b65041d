//! The products of linear layers against candle's: of values as they are, of values rounded to
//! bf16, and with a weight packed beforehand.
//!
//! Throughput is in multiply-adds per second: half of what is usually given as GFLOP/s.
#![allow(clippy::unwrap_used, missing_docs)]

use candle_core::{Device, Tensor};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opd_kernels::{Products, linear_packed};

type Product = fn(Products, &Tensor, &Tensor) -> opd_kernels::Result<Tensor>;
type Plain = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

/// A product of `rows x depth` by `depth x cols`, and which operands are stored transposed.
struct Form {
    name: &'static str,
    transposed: (bool, bool),
    ours: Product,
    candle: Plain,
}

const FORMS: [Form; 3] = [
    Form {
        name: "linear",
        transposed: (false, true),
        ours: |products, a, b| products.linear(a, b),
        candle: |a, b| a.matmul(&b.t()?),
    },
    Form {
        name: "linear_grad_input",
        transposed: (false, false),
        ours: |products, a, b| products.grad_input(a, b),
        candle: |a, b| a.matmul(b),
    },
    Form {
        name: "linear_grad_weight",
        transposed: (true, false),
        ours: Products::grad_weight,
        candle: |a, b| a.t()?.matmul(b),
    },
];

/// Form, rows, depth, columns.
const CASES: [(usize, usize, usize, usize); 20] = [
    (0, 2592, 64, 192),
    (0, 2592, 64, 352),
    (0, 2592, 176, 64),
    (0, 2592, 128, 384),
    (0, 256, 64, 192),
    (1, 2592, 192, 64),
    (2, 192, 2592, 64),
    (2, 352, 2592, 64),
    (0, 1, 576, 1536),
    (0, 8, 576, 1536),
    (0, 512, 576, 1536),
    (0, 1, 576, 49152),
    (0, 8, 576, 49152),
    (0, 32, 576, 49152),
    (0, 8, 1536, 576),
    (0, 32, 576, 3072),
    (0, 512, 576, 49152),
    (0, 96, 576, 49152),
    (1, 96, 49152, 576),
    (2, 49152, 96, 576),
];

fn stored(rows: usize, cols: usize, transposed: bool) -> Tensor {
    let shape = if transposed { (cols, rows) } else { (rows, cols) };
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
}

fn products(criterion: &mut Criterion) {
    for (form, rows, depth, cols) in CASES {
        let form = &FORMS[form];
        let (a, b) =
            (stored(rows, depth, form.transposed.0), stored(depth, cols, form.transposed.1));
        let mut group = criterion.benchmark_group(format!("{}/{rows}x{depth}x{cols}", form.name));
        group.throughput(Throughput::Elements((rows * depth * cols) as u64));
        for (name, products) in [("opd", Products::Full), ("opd bf16", Products::Bf16)] {
            group.bench_function(name, |bench| {
                bench.iter(|| (form.ours)(products, &a, &b).unwrap());
            });
            if form.transposed == (false, true) {
                let packed = products.pack(&b).unwrap();
                group.bench_function(format!("{name} packed"), |bench| {
                    bench.iter(|| linear_packed(&a, &packed).unwrap());
                });
            }
        }
        group.bench_function("candle", |bench| bench.iter(|| (form.candle)(&a, &b).unwrap()));
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
