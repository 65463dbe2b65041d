//! bf16 and f16 have the results of the same values in f32, each rounded once.

use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    HeadNorms, Heads, RotaryTable, Span, Spans, add_assign, add_rms_norm, attention,
    attention_backward, rms_norm, rms_norm_backward, rotate_heads, rotate_heads_backward,
    scatter_add_rows, swiglu, swiglu_backward,
};
use opd_testkit::{host, numbers, tensor};

use super::ids;

const NARROW: [DType; 2] = [DType::BF16, DType::F16];
const HEADS: Heads = Heads { heads: 6, kv_heads: 2, head_dim: 18 };

/// Runs `work` on inputs of `dtype`, and on the same values in f32.
fn is_rounded(dtype: DType, work: impl Fn(&dyn Fn(&[usize], u64) -> Tensor) -> Vec<Tensor>) {
    let stored = |dims: &[usize], seed| {
        let values = numbers(dims.iter().product(), seed, 2.0);
        tensor(&values, dims, dtype)
    };
    let got = work(&stored);
    let want = work(&|dims, seed| stored(dims, seed).to_dtype(DType::F32).unwrap());
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!(got.dtype() == dtype || got.dtype() == DType::F32, "output {i}");
        let want = want.to_dtype(got.dtype()).unwrap();
        assert_eq!(host(got), host(&want), "{dtype:?}: output {i}");
    }
}

#[test]
fn norms_and_gates() {
    for dtype in NARROW {
        is_rounded(dtype, |of| {
            let (x, dy, weight) = (of(&[150, 64], 1), of(&[150, 64], 2), of(&[64], 3));
            let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, Some(&x), 1e-5).unwrap();
            let gates = swiglu_backward(&x, &of(&[150, 32], 4)).unwrap();
            let norm = rms_norm(&x, &weight, 1e-5).unwrap();
            vec![norm, dx, dweight, swiglu(&x).unwrap(), gates]
        });
    }
}

#[test]
fn a_norm_behind_a_sum_is_that_of_the_rounded_sum() {
    for dtype in NARROW {
        let of = |seed| tensor(&numbers(640, seed, 2.0), (10, 64), dtype);
        let weight = tensor(&numbers(64, 3, 1.0), 64, dtype);
        let (sum, normed) = add_rms_norm(&of(1), &of(2), &weight, 1e-5).unwrap();
        assert_eq!(host(&sum), host(&(of(1) + of(2)).unwrap()));
        assert_eq!(host(&normed), host(&rms_norm(&sum, &weight, 1e-5).unwrap()));
    }
}

#[test]
fn rotations() {
    let places = ids(&(0..80).map(|i| i * 3 % 40).collect::<Vec<_>>());
    for dtype in NARROW {
        let table = RotaryTable::new(&[0.3; 9], 40, dtype, &Device::Cpu).unwrap();
        is_rounded(dtype, |of| {
            let (x, dy) = (of(&[80, 180], 1), of(&[80, 10, 18], 2));
            let (query, key) = (of(&[18], 3), of(&[18], 4));
            let table = table.to_dtype(x.dtype()).unwrap();
            let norms = HeadNorms { query: &query, key: &key, eps: 1e-5 };
            [None, Some(norms)]
                .into_iter()
                .flat_map(|norms| {
                    let y = rotate_heads(&x, HEADS, norms, &table, &places).unwrap();
                    let back =
                        rotate_heads_backward(&x, HEADS, norms, &table, &places, &dy).unwrap();
                    let of_norms = back.norms.into_iter().flat_map(|(query, key)| [query, key]);
                    [y, back.qkv].into_iter().chain(of_norms).collect::<Vec<_>>()
                })
                .collect()
        });
    }
}

/// Prompts with responses, rows that nobody queries, and a span whose queries are not its keys.
fn spans() -> Spans {
    let span = |queries, prefix, keys| Span { queries, prefix, keys };
    let list = vec![
        span(0..20, 0..0, 0..20),
        span(20..25, 0..20, 20..25),
        span(60..61, 0..20, 60..61),
        span(30..50, 5..15, 30..50),
        span(52..55, 0..0, 50..58),
    ];
    Spans::new(list, 64, 64).unwrap()
}

#[test]
fn attentions() {
    for dtype in NARROW {
        is_rounded(dtype, |of| {
            let (qkv, dout) = (of(&[64, 10, 18], 1), of(&[64, 6, 18], 2));
            let part = |first, n| qkv.narrow(1, first, n).unwrap();
            let got = attention(&part(0, 6), &part(6, 2), &part(8, 2), &spans()).unwrap();
            let gradient = attention_backward(&qkv, HEADS, &spans(), &got, &dout).unwrap();
            vec![got.out, got.lse, gradient]
        });
    }
}

#[test]
fn sums_in_place() {
    let places = ids(&(0..200).map(|i| i * 7 % 11).collect::<Vec<_>>());
    for dtype in NARROW {
        is_rounded(dtype, |of| {
            let (sums, rows) = (of(&[11, 40], 1).copy().unwrap(), of(&[200, 40], 2));
            scatter_add_rows(&sums, &places, &rows).unwrap();
            let other = of(&[200, 40], 3).copy().unwrap();
            add_assign(&other, &rows).unwrap();
            vec![sums, other]
        });
    }
}
