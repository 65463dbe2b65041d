//! Every instruction set gives the same bits: loops over rows have one order of sums, whatever the width
//! of the vectors, and round every product and every sum.

use std::cell::Cell;

use candle_core::{DType, Device, Tensor, Var};
use opd_testkit::{host, numbers, tensor};
use pulp::Arch;

use crate::{
    AdamWStep, Divergence, HeadNorms, Heads, RotaryTable, adamw_step, add_assign, add_rms_norm,
    divergence, moving_average, rms_norm, rms_norm_backward, rotate_heads, rotate_heads_backward,
    scatter_add_rows, sum_of_squares, swiglu, swiglu_backward, token_logprobs,
};

thread_local! {
    pub(super) static FORCED: Cell<Option<Arch>> = const { Cell::new(None) };
}

/// What this machine has, narrowest first.
fn available() -> Vec<Arch> {
    #[allow(unused_mut)]
    let mut all = vec![Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        all.extend(pulp::x86::V3::try_new().map(Arch::V3));
        all.extend(pulp::x86::V4::try_new().map(Arch::V4));
    }
    all
}

/// Asserts that `work` gives the same bits with every instruction set.
fn agree(work: impl Fn() -> Vec<Tensor> + Send + Sync) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let run = |arch| {
        pool.install(|| {
            FORCED.set(Some(arch));
            let all = work();
            FORCED.set(None);
            all.iter().map(|t| host(t).iter().map(|x| x.to_bits()).collect()).collect()
        })
    };
    let want: Vec<Vec<u64>> = run(Arch::Scalar);
    for arch in available() {
        let got: Vec<Vec<u64>> = run(arch);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!(got == want, "output {i} has other bits with {arch:?}");
        }
    }
}

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::BF16, DType::F16];

fn input(dims: &[usize], seed: u64, scale: f64, dtype: DType) -> Tensor {
    tensor(&numbers(dims.iter().product(), seed, scale), dims, dtype)
}

#[test]
fn norms_gates_and_rotations() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 22 };
    let places = Tensor::arange(0u32, 70, &Device::Cpu).unwrap();
    for dtype in DTYPES {
        let of = |dims: &[usize], seed| input(dims, seed, 2.0, dtype);
        let table = RotaryTable::new(&[1.0; 11].map(|x| x / 3.0), 70, dtype, &Device::Cpu).unwrap();
        agree(|| {
            let (x, dy, weight) = (of(&[70, 176], 1), of(&[70, 176], 2), of(&[176], 3));
            let (sum, normed) = add_rms_norm(&x, &dy, &weight, 1e-5).unwrap();
            let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, Some(&sum), 1e-5).unwrap();
            let (query, key) = (of(&[22], 4), of(&[22], 5));
            let norms = Some(HeadNorms { query: &query, key: &key, eps: 1e-5 });
            let rotated = rotate_heads(&x, heads, norms, &table, &places).unwrap();
            let back = rotate_heads_backward(&x, heads, norms, &table, &places, &rotated).unwrap();
            let (dquery, dkey) = back.norms.unwrap();
            let gates = swiglu_backward(&x, &of(&[70, 88], 6)).unwrap();
            let outs = [rms_norm(&x, &weight, 1e-5).unwrap(), swiglu(&x).unwrap(), gates];
            let more = [sum, normed, dx, dweight, rotated, back.qkv, dquery, dkey];
            outs.into_iter().chain(more).collect()
        });
    }
}

#[test]
fn logits() {
    // One block of logits, and several.
    for vocab in [37, 900, 3000] {
        for dtype in DTYPES {
            agree(|| {
                let of = |seed| input(&[5, vocab], seed, 9.0, dtype);
                let ids = Tensor::new(&[0u32, 3, 36, 7, 1], &Device::Cpu).unwrap();
                let (x, teacher) = (Var::from_tensor(&of(1)).unwrap(), of(2));
                let tokens = token_logprobs(&x, &ids, 0.8).unwrap();
                let kind = Divergence::Jsd { beta: 0.3 };
                let between = divergence(&x, &teacher, &ids, kind, 0.8).unwrap();
                let sum = (&tokens.logprobs + &tokens.entropy).unwrap();
                let sum = (sum + &between.divergence).unwrap().sum_all().unwrap();
                let gradient = sum.backward().unwrap().get(&x).unwrap().clone();
                vec![tokens.logprobs, tokens.lse, tokens.entropy, between.divergence, gradient]
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
    for dtype in DTYPES {
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        agree(|| {
            let of = |seed, dtype| input(&[60, 41], seed, 1.0, dtype).copy().unwrap();
            let [p, m, v] = [1, 2, 3].map(|seed| of(seed, wide));
            let v = v.sqr().unwrap();
            let g = of(4, dtype);
            adamw_step(&p, &g, &m, &v, &settings).unwrap();
            let (sums, average) = (of(5, dtype), of(6, dtype));
            add_assign(&sums, &g).unwrap();
            moving_average(&average, &g, 0.9).unwrap();
            let ids = Tensor::new((0..60u32).map(|i| i * 7 % 11).collect::<Vec<_>>(), p.device());
            scatter_add_rows(&sums, &ids.unwrap(), &g).unwrap();
            let squares = Tensor::new(sum_of_squares(&g).unwrap(), p.device()).unwrap();
            vec![p, m, v, sums, average, squares]
        });
    }
}
