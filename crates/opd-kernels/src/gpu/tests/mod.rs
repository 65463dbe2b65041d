//! The GPU's kernels, run on the host, against those of the CPU.
//!
//! Every comparison runs the kernels twice, with the threads of a block taking turns from the first
//! and from the last: a missing barrier gives other bits.

mod attention;
mod divergences;
mod draws;
mod heads;
mod logprobs;
mod rows;
mod scores;
mod training;

use candle_core::{DType, Device, Tensor, Var};
use opd_testkit::{host as values, numbers, skipped};

use super::host;

const DTYPES: [DType; 4] = [DType::F64, DType::F32, DType::BF16, DType::F16];

/// Values of some tensors.
type Parts = Vec<Vec<f64>>;

/// Results of `work` on the CPU's kernels and on the GPU's; `None`, said loudly, where there is no
/// C++ compiler, unless the environment asks for one.
fn both(work: impl Fn() -> Vec<Tensor>) -> Option<[Parts; 2]> {
    if let Err(why) = host::library() {
        assert!(std::env::var_os("OPD_CUDA_HOST_REQUIRED").is_none(), "{why}");
        skipped(why);
        return None;
    }
    let all = |tensors: Vec<Tensor>| tensors.iter().map(values).collect::<Vec<_>>();
    let want = all(work());
    let got = host::run(false, || all(work()));
    let backwards = host::run(true, || all(work()));
    let bits = |values: &[Vec<f64>]| -> Vec<Vec<u64>> {
        values.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
    };
    assert!(bits(&got) == bits(&backwards), "other bits in another order of threads");
    Some([want, got])
}

/// Asserts that both kernels agree: `|got - want| <= tolerance * max(1, |want|)`, NaN and infinity
/// where the other has them.
#[track_caller]
fn agree(tolerance: f64, work: impl Fn() -> Vec<Tensor>) {
    let Some([want, got]) = both(work) else { return };
    assert_eq!(want.len(), got.len());
    for (part, (want, got)) in want.iter().zip(&got).enumerate() {
        assert_eq!(want.len(), got.len(), "length of part {part}");
        for (i, (want, got)) in want.iter().zip(got).enumerate() {
            let near = (got - want).abs() <= tolerance * want.abs().max(1.0);
            let same = want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan());
            assert!(near || same, "part {part}, entry {i}: {got}, the CPU has {want}");
        }
    }
}

/// How far two ways to round the same number to `dtype` may lie apart, relative to 1.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 4e-6,
        DType::F16 => 1e-3,
        _ => 8e-3,
    }
}

fn matrix(rows: usize, width: usize, seed: u64, scale: f64, dtype: DType) -> Var {
    let tensor = opd_testkit::tensor(&numbers(rows * width, seed, scale), (rows, width), dtype);
    Var::from_tensor(&tensor).unwrap()
}

fn ids(n: usize, limit: usize, seed: u64) -> Tensor {
    let ids = numbers(n, seed, 1.0).into_iter().map(|x| ((x + 1.0) / 2.0 * limit as f64) as u32);
    let ids: Vec<u32> = ids.map(|id| id.min(limit as u32 - 1)).collect();
    Tensor::from_vec(ids, n, &Device::Cpu).unwrap()
}

/// `sum_i weights_i values_i`, with weights of its own for each `seed`.
fn weighted(part: &Tensor, seed: u64) -> Tensor {
    let n = part.elem_count();
    let weights = opd_testkit::tensor(&numbers(n, seed, 1.0), part.shape().clone(), part.dtype());
    (part * weights).unwrap().sum_all().unwrap()
}

fn gradient(of: &Tensor, with_respect_to: &Tensor) -> Tensor {
    of.backward().unwrap().get(with_respect_to).unwrap().clone()
}
