//! Adapters.

use candle_core::{DType, Device, Tensor};
use opd_kernels::{AdamWStep, adamw_step};
use opd_testkit::{host, numbers, tensor};

const N: usize = 48;

/// How far AdamW's first two steps at rate 1 move what is given, for gradients of these values.
fn moved(values: &Tensor, gradient: &Tensor) -> Tensor {
    let zeros = || values.zeros_like().unwrap();
    let (moved, first, second) = (values.copy().unwrap(), zeros(), zeros());
    for step in 1..=2 {
        let settings = AdamWStep {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-12,
            weight_decay: 0.0,
            gradient_scale: 1.0,
            step,
        };
        adamw_step(&moved, gradient, &first, &second, &settings).unwrap();
    }
    moved
}

/// A weight `[N, N]` with a gradient, moved as it is and through an adapter of rank 16, alpha 32:
/// at one rate the loss falls less far.
pub(crate) fn a_rate_for_weights_moves_adapters_little() {
    let gradient = tensor(&numbers(N * N, 1, 1.0), &[N, N], DType::F64);
    let fall = |change: &Tensor| host(&(change * &gradient).unwrap().sum_all().unwrap())[0];
    let weight = Tensor::zeros((N, N), DType::F64, &Device::Cpu).unwrap();
    let whole = fall(&moved(&weight, &gradient));

    let (rank, scale) = (16, 2.0);
    let down = tensor(&numbers(rank * N, 2, 1.0 / (N as f64).sqrt()), &[rank, N], DType::F64);
    let up = Tensor::zeros((N, rank), DType::F64, &Device::Cpu).unwrap();
    // d loss / d up = scale G down^T; at up = 0 the other factor has none.
    let of_up = (gradient.matmul(&down.t().unwrap()).unwrap() * scale).unwrap();
    let change = (moved(&up, &of_up).matmul(&down).unwrap() * scale).unwrap();
    let adapted = fall(&change);
    assert!(whole < 0.0 && adapted < 0.0, "both learn: {whole}, {adapted}");
    assert!(adapted > 0.75 * whole, "{adapted} of {whole}");
}
