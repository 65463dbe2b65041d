//! Products of matrices that are stored narrower than f32.
//!
//! Operands are widened a part at a time and multiplied by the kernels of f32, so an output is its f32
//! sum, in the one order that [`super`] defines, rounded once.

use std::ops::Range;

use super::{
    Matrix, MatrixMut, Update,
    buffer::with_buffer,
    encoded::{gemm_encoded, gemm_encoded_columns},
    tiles::Tiles,
};
use crate::{Products, cpu::Stored};

/// Values of left operand and sums, in f32, that exist at one time, beyond [`LEAST_ROWS`] rows.
const AT_ONCE: usize = 4 << 20;

/// Fewer rows than this would widen the right operand too often.
const LEAST_ROWS: usize = 96;

/// `a b`, each value rounded once, as rows back to back.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn product_narrow<S: Stored<Wide = f32>>(a: Matrix<'_, S>, b: Matrix<'_, S>) -> Vec<S> {
    let cols = b.cols();
    let mut out = vec![S::default(); a.rows() * cols];
    for_rows(a, b, |rows, sums| S::narrow(sums, &mut out[rows.start * cols..rows.end * cols]));
    out
}

/// `c += a b`, each sum rounded once; rows of `c` are `row_stride` apart.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn add_narrow<S: Stored<Wide = f32>>(
    (c, row_stride): (&mut [S], usize),
    a: Matrix<'_, S>,
    b: Matrix<'_, S>,
) {
    let cols = b.cols();
    for_rows(a, b, |rows, sums| {
        with_buffer(cols, |room: &mut [f32]| {
            for (row, sums) in rows.zip(sums.chunks_exact(cols)) {
                S::update(&mut c[row * row_stride..][..cols], room, |c| {
                    for (c, sum) in c.iter_mut().zip(sums) {
                        *c += *sum;
                    }
                });
            }
        });
    });
}

/// Calls `work` with rows of the product and their numbers, first to last.
fn for_rows<S: Stored<Wide = f32>>(
    a: Matrix<'_, S>,
    b: Matrix<'_, S>,
    mut work: impl FnMut(Range<usize>, &[f32]),
) {
    assert_eq!(a.cols(), b.rows(), "gemm: shapes");
    let (rows, depth, cols) = (a.rows(), a.cols(), b.cols());
    if rows == 0 || cols == 0 {
        return;
    }
    let at_once = (AT_ONCE / (depth + cols)).max(LEAST_ROWS).min(rows);
    with_buffer(at_once * (depth + cols), |buffer: &mut [f32]| {
        let (left, sums) = buffer.split_at_mut(at_once * depth);
        for first in (0..rows).step_by(at_once) {
            let part = first..rows.min(first + at_once);
            let sums = &mut sums[..part.len() * cols];
            if depth == 0 {
                sums.fill(0.0);
            } else {
                let left = widened(a.part(part.clone(), 0..depth), left);
                multiply(MatrixMut::row_major(sums, part.len(), cols), left, b);
            }
            work(part, sums);
        }
    });
}

/// `c = a b`.
fn multiply<S: Stored<Wide = f32>>(c: MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, S>) {
    if b.row_stride() == 1 && b.col_stride() != 1 {
        return gemm_encoded(Products::Full, c, a, &b.t());
    }
    gemm_encoded_columns(Products::Full, c, a, &b, Update::Set);
}

/// A matrix in `buffer`, in the order in which it lies in memory.
fn widened<'a, S: Stored<Wide = f32>>(
    matrix: Matrix<'_, S>,
    buffer: &'a mut [f32],
) -> Matrix<'a, f32> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let buffer = &mut buffer[..rows * cols];
    if matrix.row_stride() == 1 && matrix.col_stride() != 1 {
        matrix.t().decode(0..cols, 0..rows, buffer);
        return Matrix::row_major(buffer, cols, rows).t();
    }
    matrix.decode(0..rows, 0..cols, buffer);
    Matrix::row_major(buffer, rows, cols)
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{Matrix, Stored, add_narrow, product_narrow};
    use crate::cpu::gemm::product;

    fn numbers<S: Stored<Wide = f32>>(n: usize, seed: u32) -> Vec<S> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as f32 / 64.0 - 2.0
        };
        let mut to = vec![S::default(); n];
        S::narrow(&(0..n).map(|_| next()).collect::<Vec<_>>(), &mut to);
        to
    }

    fn wide<S: Stored<Wide = f32>>(values: &[S]) -> Vec<f32> {
        let mut to = vec![0.0; values.len()];
        S::widen(values, &mut to);
        to
    }

    /// What the kernels of f32 make of the same values, rounded.
    fn check<S: Stored<Wide = f32>>() {
        for (m, k, n) in
            [(1, 1, 1), (3, 300, 37), (130, 520, 65), (200, 7, 3), (4, 0, 2), (0, 3, 2)]
        {
            let (a, b) = (numbers::<S>(m * k, 1), numbers::<S>(k * n, 2));
            let (wide_a, wide_b) = (wide(&a), wide(&b));
            for turned in [false, true] {
                fn of<T>(values: &[T], rows: usize, cols: usize, turned: bool) -> Matrix<'_, T> {
                    match turned {
                        true => Matrix::row_major(values, cols, rows).t(),
                        false => Matrix::row_major(values, rows, cols),
                    }
                }
                let sums = product(of(&wide_a, m, k, turned), of(&wide_b, k, n, !turned));
                let mut want = vec![S::default(); m * n];
                S::narrow(&sums, &mut want);
                let (a, b) = (of(&a, m, k, turned), of(&b, k, n, !turned));
                assert!(product_narrow(a, b) == want, "{m} {k} {n} {turned}");
                let mut c = vec![S::default(); m * (n + 2)];
                add_narrow((&mut c, n + 2), a, b);
                for (row, want) in c.chunks_exact(n + 2).zip(want.chunks_exact(n)) {
                    assert!(row[..n] == *want && row[n..] == [S::default(); 2]);
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_f32_rounded_once() {
        check::<bf16>();
        check::<f16>();
    }
}
