//! Errors of every op against float64, beside PyTorch's own on the same inputs and in the same dtype.
//!
//! What is compared is the root of the mean square over all values of an output: the largest of a few
//! thousand errors says little about who is more exact. `pytorch.py` says what PyTorch computed. With
//! `-- --nocapture` the tests print what they compare.
#![allow(clippy::unwrap_used)]

mod heads;
mod layers;
mod logits;
mod training;

use std::{fmt::Write, sync::LazyLock};

use candle_core::{DType, Tensor, Var};
use opd_kernels::reference;
use opd_testkit::{host, tensor};
use serde_json::Value;

static PYTORCH: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("pytorch.json")).unwrap());

const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

/// A gradient in bf16 or f16 may be off by this much more than float64's rounded to that dtype.
const ROUNDED: f64 = 1.05;

/// Numbers from `-scale` to `scale` (a power of 2), of 24 bits for f32, else of 8, in f64; those of
/// `pytorch.py`.
fn values(seed: u32, dims: &[usize], dtype: DType, scale: f64) -> Tensor {
    let n: usize = dims.iter().product();
    let value = |i: u32| {
        let h = i.wrapping_mul(0x9e37_79b1).wrapping_add(seed.wrapping_mul(0x85eb_ca77));
        let h = (h ^ h >> 16).wrapping_mul(0x7feb_352d);
        let h = (h ^ h >> 15).wrapping_mul(0x846c_a68b);
        let h = h ^ h >> 16;
        match dtype {
            DType::F32 => (f64::from(h >> 8) - 8_388_608.0) / 8_388_608.0,
            _ => (f64::from(h >> 24) - 128.0) / 128.0,
        }
    };
    let values: Vec<f64> = (0..n as u32).map(|i| scale * value(i)).collect();
    tensor(&values, dims, DType::F64)
}

/// Root of the mean square, and largest.
#[derive(Clone, Copy, Debug)]
struct Errors {
    rms: f64,
    max: f64,
}

impl Errors {
    fn of(got: &Tensor, truth: &Tensor) -> Self {
        assert_eq!(got.dims(), truth.dims());
        let errors: Vec<f64> =
            host(got).iter().zip(host(truth)).map(|(got, truth)| (got - truth).abs()).collect();
        let squares: f64 = errors.iter().map(|error| error * error).sum();
        let max = errors.iter().copied().fold(0.0, f64::max);
        assert!(squares.is_finite());
        Self { rms: (squares / errors.len() as f64).sqrt(), max }
    }
}

/// What one op does in one dtype.
struct Case {
    op: &'static str,
    dtype: DType,
    failures: String,
}

impl Case {
    fn new(op: &'static str, dtype: DType) -> Self {
        Self { op, dtype, failures: String::new() }
    }

    fn name(&self) -> &'static str {
        match self.dtype {
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            _ => "f32",
        }
    }

    fn pytorch(&self, output: &str) -> Errors {
        let cases = PYTORCH["cases"].as_array().unwrap();
        let is_it = |case: &&Value| {
            case["op"] == self.op && case["dtype"] == self.name() && case["output"] == output
        };
        let case = cases.iter().find(is_it).unwrap();
        Errors { rms: case["rms"].as_f64().unwrap(), max: case["max"].as_f64().unwrap() }
    }

    /// Holds an output against float64.
    fn output(&mut self, output: &str, got: &Tensor, truth: &Tensor) {
        let (ours, torch) = (Errors::of(got, truth), self.pytorch(output));
        let what = format!("{} {} {output}", self.op, self.name());
        let mut line = format!("{what}: {:.3e} (at most {:.2e}), ", ours.rms, ours.max);
        write!(line, "PyTorch {:.3e} (at most {:.2e})", torch.rms, torch.max).unwrap();
        let mut good = ours.rms <= torch.rms;
        if matches!(got.dtype(), DType::BF16 | DType::F16) {
            let nearest = truth.to_dtype(got.dtype()).unwrap();
            let rounding = Errors::of(&nearest, truth);
            write!(line, ", rounding {:.3e}", rounding.rms).unwrap();
            // Where PyTorch is as exact as rounding, the two differ by how sums near a tie fell.
            good |= torch.rms <= ROUNDED * rounding.rms;
            good &= ours.rms <= ROUNDED * rounding.rms;
        }
        println!("{line}");
        if !good {
            writeln!(self.failures, "{line}").unwrap();
        }
    }

    /// Asserts that all outputs were exact enough.
    fn finish(self) {
        assert!(self.failures.is_empty(), "less exact than it must be:\n{}", self.failures);
    }
}

/// Outputs in f64, and the gradients of `sum(outputs * upstream)` in the inputs.
fn truth(
    inputs: &[&Tensor],
    upstream: &[&Tensor],
    forward: impl Fn(&[Tensor]) -> Vec<Tensor>,
) -> (Vec<Tensor>, Vec<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let outputs = forward(&tensors);
    let flat = |tensors: &[&Tensor]| {
        let parts: Vec<Tensor> = tensors.iter().map(|t| t.flatten_all().unwrap()).collect();
        Tensor::cat(&parts, 0).unwrap()
    };
    let all = flat(&outputs.iter().collect::<Vec<_>>());
    let of: Vec<&Tensor> = tensors.iter().collect();
    let gradients = reference::gradients(&all, &flat(upstream), &of).unwrap();
    (outputs, gradients)
}

/// The same of an op in candle's graph, on inputs of `dtype`; outputs are in f32.
fn differentiated(
    inputs: &[&Tensor],
    upstream: &[&Tensor],
    dtype: DType,
    forward: impl Fn(&[Tensor]) -> Vec<Tensor>,
) -> (Vec<Tensor>, Vec<Tensor>) {
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(dtype).unwrap()).collect();
    truth(&inputs.iter().collect::<Vec<_>>(), upstream, forward)
}
