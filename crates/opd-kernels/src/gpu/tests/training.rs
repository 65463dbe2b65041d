use candle_core::{DType, Device, Tensor};
use opd_testkit::numbers;

use super::{DTYPES, agree, both, matrix, unit};
use crate::{
    AdamWStep, HeadNorms, Heads, RotaryTable, adamw_step, add_assign, add_rms_norm,
    advantages_and_returns, discounted_sums, moving_average, rms_norm, rms_norm_backward,
    rotate_heads, rotate_heads_backward, sum_of_squares, swiglu, swiglu_backward,
};

/// What bf16 and f16 are compared with is computed in f32, of the same values.
fn rounded(tensor: &Tensor, dtype: DType) -> Tensor {
    tensor.to_dtype(dtype).unwrap()
}

/// Runs `work` in `dtype` on the GPU's kernels and in f32 (or f64) on the CPU's, on inputs that the
/// dtype can hold.
fn in_dtype(dtype: DType, tolerance: f64, work: impl Fn(&dyn Fn(Tensor) -> Tensor) -> Vec<Tensor>) {
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    agree(tolerance, || {
        let on_host = super::host::current().is_some();
        let to = if on_host { dtype } else { wide };
        work(&|input| rounded(&rounded(&input, dtype), to))
    });
}

fn input(dims: &[usize], seed: u64, scale: f64) -> Tensor {
    let n = dims.iter().product();
    opd_testkit::tensor(&numbers(n, seed, scale), dims, DType::F64)
}

#[test]
fn norms() {
    for (rows, width) in [(0, 4), (1, 1), (3, 64), (70, 33), (5, 1100)] {
        for dtype in DTYPES {
            let tolerance = 8.0 * unit(dtype);
            in_dtype(dtype, tolerance, |to| {
                let [x, delta, dy] = [1, 2, 3].map(|seed| to(input(&[rows, width], seed, 2.0)));
                let weight = to(input(&[width], 4, 1.5));
                let (sum, out) = add_rms_norm(&x, &delta, &weight, 1e-5).unwrap();
                let (dx, dweight) =
                    rms_norm_backward(&x, &weight, &dy, Some(&delta), 1e-5).unwrap();
                let (plain, _) = rms_norm_backward(&x, &weight, &dy, None, 1e-5).unwrap();
                let norm = rms_norm(&x, &weight, 1e-5).unwrap();
                // Sums over rows grow with their number.
                let dweight = (dweight / (rows.max(1) as f64)).unwrap();
                vec![norm, sum, out, dx, plain, dweight]
            });
        }
    }
}

#[test]
fn rotations() {
    let table = |dtype| RotaryTable::new(&[1.0, 0.3, 0.05], 40, dtype, &Device::Cpu).unwrap();
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 6 };
    for rows in [0, 1, 45] {
        let places: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 40).collect();
        let positions = Tensor::from_vec(places, rows, &Device::Cpu).unwrap();
        for dtype in DTYPES {
            in_dtype(dtype, 16.0 * unit(dtype), |to| {
                let qkv = to(input(&[rows, 48], 1, 2.0));
                let dy = to(input(&[rows, 8, 6], 2, 1.0));
                let [query, key] = [3, 4].map(|seed| to(input(&[6], seed, 1.5)));
                let norms = HeadNorms { query: &query, key: &key, eps: 1e-6 };
                let table = table(qkv.dtype());
                let mut all = Vec::new();
                for norms in [None, Some(norms)] {
                    all.push(rotate_heads(&qkv, heads, norms, &table, &positions).unwrap());
                    let back =
                        rotate_heads_backward(&qkv, heads, norms, &table, &positions, &dy).unwrap();
                    all.push(back.qkv);
                    let weights = back.norms.into_iter().flat_map(|(query, key)| [query, key]);
                    all.extend(weights.map(|sum| (sum / (8.0 * rows.max(1) as f64)).unwrap()));
                }
                all
            });
        }
    }
}

#[test]
fn gates() {
    for (rows, width) in [(0, 3), (1, 1), (4, 700)] {
        for dtype in DTYPES {
            in_dtype(dtype, 16.0 * unit(dtype), |to| {
                let gate_up = to(input(&[rows, 2 * width], 1, 8.0));
                let dy = to(input(&[rows, width], 2, 1.0));
                vec![swiglu(&gate_up).unwrap(), swiglu_backward(&gate_up, &dy).unwrap()]
            });
        }
    }
}

#[test]
fn updates_in_place() {
    let settings = AdamWStep {
        lr: 3e-2,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-3,
        weight_decay: 0.2,
        gradient_scale: 0.25,
        step: 3,
    };
    for n in [1, 1024, 5000] {
        for dtype in DTYPES {
            in_dtype(dtype, 4.0 * unit(dtype), |to| {
                let fresh = |seed: u64| to(input(&[n], seed, 1.0)).copy().unwrap();
                let [p, g, m] = [fresh(1), fresh(2), fresh(3)];
                let v = fresh(4).sqr().unwrap();
                adamw_step(&p, &g, &m, &v, &settings).unwrap();
                let sums = fresh(5);
                add_assign(&sums, &g).unwrap();
                let average = fresh(6);
                moving_average(&average, &g, 0.9).unwrap();
                vec![p, m, v, sums, average]
            });
        }
    }
}

#[test]
fn squares() {
    for dtype in DTYPES {
        for n in [0, 5, 40_000] {
            let values = matrix(1, n.max(1), 1, 3.0, dtype).narrow(1, 0, n).unwrap();
            let square = || {
                let wide = if super::host::current().is_some() { dtype } else { DType::F64 };
                let sum = sum_of_squares(&values.to_dtype(wide).unwrap()).unwrap();
                vec![Tensor::new(sum, &Device::Cpu).unwrap()]
            };
            let Some([want, got]) = both(square) else { return };
            assert!((got[0][0] / want[0][0] - 1.0).abs() < 1e-13 || n == 0, "{got:?} {want:?}");
        }
    }
}

#[test]
fn scans_of_ragged_rows() {
    // Rows of no token, of one, of a warp, and of more than a warp takes at once.
    let starts = [0, 0, 1, 33, 33, 200, 263];
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        for discount in [0.0, 0.9, 1.0] {
            agree(tolerance, || {
                let [rewards, values] =
                    [1, 2].map(|seed| opd_testkit::tensor(&numbers(263, seed, 1.0), 263, dtype));
                let sums = discounted_sums(&rewards, &starts, discount).unwrap();
                let (advantages, returns) =
                    advantages_and_returns(&rewards, &values, &starts, 0.97, discount).unwrap();
                vec![sums, advantages, returns]
            });
        }
    }
}
