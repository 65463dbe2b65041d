use half::bf16;
use proptest::prelude::*;

use super::{
    super::{Kernels, Matrix, MatrixMut, Update, matrix, pages::Pages},
    PackedPairs, available, multiply_bf16,
};

/// Numbers in `-1..1` that differ in size.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n).map(|_| ((next() * 2.0 - 1.0) * (next() * 6.0 - 5.0).exp2()) as f32).collect()
}

fn run(
    kernels: &'static Kernels<f32>,
    threads: usize,
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
) -> Vec<f32> {
    matrix::collect(a.rows(), b.cols(), |c| {
        multiply_bf16(kernels, threads, c, a, b, Update::Set);
    })
}

fn rounded(value: f32) -> f64 {
    bf16::from_f32(value).to_f64()
}

/// A matrix stored by rows or by columns.
fn view(values: &[f32], rows: usize, cols: usize, by_row: bool) -> Matrix<'_, f32> {
    match by_row {
        true => Matrix::row_major(values, rows, cols),
        false => Matrix::row_major(values, cols, rows).t(),
    }
}

fn at(values: &[f32], (rows, cols): (usize, usize), by_row: bool, i: usize, j: usize) -> f32 {
    values[if by_row { i * cols + j } else { j * rows + i }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_of_rounded_operands_agree_with_f64(
        m in 1usize..40, k in 1usize..1100, n in 1usize..80,
        left: bool, right: bool, threads in 1usize..4,
    ) {
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        for (name, kernels) in available() {
            let c = run(kernels, threads, view(&a, m, k, left), view(&b, k, n, right));
            let mut sum = vec![0.5; m * n];
            multiply_bf16(
                kernels,
                threads,
                MatrixMut::row_major(&mut sum, m, n),
                view(&a, m, k, left),
                view(&b, k, n, right),
                Update::Add,
            );
            for i in 0..m {
                for j in 0..n {
                    let terms = (0..k).map(|d| {
                        rounded(at(&a, (m, k), left, i, d)) * rounded(at(&b, (k, n), right, d, j))
                    });
                    let (want, size) =
                        terms.fold((0.0, 0.0), |(s, m): (f64, f64), t| (s + t, m + t.abs()));
                    let bound = (k as f64 + 3.0) * f64::from(f32::EPSILON) * (size + 0.5);
                    let error = (f64::from(c[i * n + j]) - want).abs();
                    prop_assert!(error <= bound, "{name} set: {error} over {bound}");
                    let error = (f64::from(sum[i * n + j]) - want - 0.5).abs();
                    prop_assert!(error <= bound, "{name} add: {error} over {bound}");
                }
            }
            let packed = PackedPairs::of(kernels, view(&b, k, n, right), Pages::passing);
            prop_assert!(super::product_bf16_packed(view(&a, m, k, left), &packed) == c, "{name}");
        }
    }
}

#[test]
fn rows_and_threads_do_not_change_bits() {
    let (rows, depth, cols) = (200, 1301, 77);
    let (a, b) = (numbers(rows * depth, 5), numbers(depth * cols, 6));
    for (name, kernels) in available() {
        for right in [true, false] {
            let b = view(&b, depth, cols, right);
            let all = run(kernels, 1, Matrix::row_major(&a, rows, depth), b);
            for batch in [1, 2, 7, 13, 199] {
                let part = Matrix::row_major(&a[(rows - batch) * depth..], batch, depth);
                let got = run(kernels, 3, part, b);
                assert!(got == all[(rows - batch) * cols..], "{name}: batch of {batch}");
            }
            assert_eq!(run(kernels, 64, Matrix::row_major(&a, rows, depth), b), all, "{name}");
        }
    }
}

#[test]
fn nan_and_infinity_propagate() {
    for special in [f32::NAN, f32::INFINITY] {
        let (mut a, b) = (vec![1.0; 3 * 9], vec![1.0; 9 * 20]);
        a[2 * 9 + 8] = special;
        for (name, kernels) in available() {
            let c = run(kernels, 1, Matrix::row_major(&a, 3, 9), Matrix::row_major(&b, 9, 20));
            assert!(c[..40].iter().all(|&sum| sum == 9.0), "{name}");
            assert!(c[40..].iter().all(|sum| sum.is_nan() == special.is_nan()), "{name}");
            assert!(c[40..].iter().all(|sum| !sum.is_finite()), "{name}");
        }
    }
}

#[test]
fn a_sum_of_nothing_is_zero() {
    let (a, b) = (Matrix::row_major(&[], 3, 0), Matrix::row_major(&[], 0, 2));
    assert_eq!(super::product_bf16(a, b), [0.0; 6]);
    let packed = PackedPairs::new(b);
    assert_eq!((packed.rows(), packed.cols()), (0, 2));
    assert_eq!(super::product_bf16_packed(a, &packed), [0.0; 6]);
}
