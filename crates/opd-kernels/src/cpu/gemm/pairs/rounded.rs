use half::bf16;
use rayon::prelude::*;

use super::super::Matrix;
use crate::cpu::dispatch;

/// Values that one task rounds: some 10 microseconds.
const TASK: usize = 1 << 16;

/// A matrix rounded to bf16, pairs of adjacent columns in one value each.
///
/// A last column without a neighbour is paired with 0.
pub(super) struct Rounded {
    values: Vec<f32>,
    rows: usize,
    pairs: usize,
    /// Whether pairs of one row are adjacent, rather than those of one pair of columns.
    by_row: bool,
}

impl Rounded {
    /// Rounds `matrix` and keeps the order in which it lies in memory.
    pub(super) fn new(matrix: Matrix<'_, f32>) -> Self {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let (row_stride, col_stride) = (matrix.row_stride(), matrix.col_stride());
        let (pairs, by_row) = (cols.div_ceil(2), col_stride == 1 || row_stride != 1);
        let from = matrix.values();
        let mut values = vec![0.0; rows * pairs];
        let (n_runs, run) = if by_row { (rows, pairs) } else { (pairs, rows) };
        if run == 0 || n_runs == 0 {
            return Self { values, rows, pairs, by_row };
        }
        let write = |i: usize, to: &mut [f32]| {
            if !by_row {
                let column = |j: usize| &from[j * col_stride..][..rows];
                match 2 * i + 1 < cols {
                    true => interleave(to, column(2 * i), column(2 * i + 1)),
                    false => widen(to, column(2 * i)),
                }
            } else if col_stride == 1 {
                join(to, &from[i * row_stride..][..cols]);
            } else {
                let at = |j: usize| from[i * row_stride + j * col_stride];
                for (pair, to) in to.iter_mut().enumerate() {
                    let second = if 2 * pair + 1 < cols { at(2 * pair + 1) } else { 0.0 };
                    *to = paired(at(2 * pair), second);
                }
            }
        };
        let runs = TASK.div_ceil(run);
        values.par_chunks_mut(runs * run).enumerate().for_each(|(task, to)| {
            for (i, to) in to.chunks_mut(run).enumerate() {
                write(task * runs + i, to);
            }
        });
        Self { values, rows, pairs, by_row }
    }

    /// `[rows, pairs of columns]`.
    pub(super) fn pairs(&self) -> Matrix<'_, f32> {
        let &Self { ref values, rows, pairs, by_row } = self;
        match by_row {
            true => Matrix::row_major(values, rows, pairs),
            false => Matrix::row_major(values, pairs, rows).t(),
        }
    }
}

/// The nearest bf16 of each value, over the threads of the current rayon pool.
pub(crate) fn round(from: &[f32], to: &mut [bf16]) {
    to.par_chunks_mut(TASK).zip(from.par_chunks(TASK)).for_each(|(to, from)| {
        dispatch(
            #[inline(always)]
            || {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = nearest_bf16(from);
                }
            },
        );
    });
}

/// Neighbours within a row.
fn join(to: &mut [f32], from: &[f32]) {
    dispatch(
        #[inline(always)]
        || {
            let (whole, rest) = from.as_chunks::<2>();
            for (to, &[first, second]) in to.iter_mut().zip(whole) {
                *to = paired(first, second);
            }
            if let (Some(to), Some(&last)) = (to.get_mut(whole.len()), rest.first()) {
                *to = paired(last, 0.0);
            }
        },
    );
}

/// Two columns.
fn interleave(to: &mut [f32], first: &[f32], second: &[f32]) {
    dispatch(
        #[inline(always)]
        || {
            for ((to, &first), &second) in to.iter_mut().zip(first).zip(second) {
                *to = paired(first, second);
            }
        },
    );
}

/// A column without a neighbour.
fn widen(to: &mut [f32], column: &[f32]) {
    for (to, &value) in to.iter_mut().zip(column) {
        *to = paired(value, 0.0);
    }
}

/// Both rounded, in the bits of one.
#[inline(always)]
fn paired(first: f32, second: f32) -> f32 {
    f32::from_bits(bits(first) >> 16 | bits(second))
}

/// The nearest bf16, ties to even; a NaN stays one.
#[inline(always)]
pub(crate) fn nearest_bf16(value: f32) -> bf16 {
    bf16::from_bits((bits(value) >> 16) as u16)
}

/// [`nearest_bf16`] in the high half.
#[inline(always)]
fn bits(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let rounded = if value.is_nan() { bits | 0x40_0000 } else { nearest };
    rounded & 0xffff_0000
}

/// The two values of a pair.
#[inline(always)]
pub(super) fn halves(pair: f32) -> (f32, f32) {
    let bits = pair.to_bits();
    (f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000))
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::{Rounded, halves, paired};
    use crate::cpu::gemm::Matrix;

    proptest! {
        #[test]
        fn every_f32_rounds_as_the_half_crate_rounds_it(first: u32, second: u32) {
            let (first, second) = (f32::from_bits(first), f32::from_bits(second));
            let pair = halves(paired(first, second));
            for (got, want) in [(pair.0, first), (pair.1, second)] {
                let want = bf16::from_f32(want).to_f32();
                prop_assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan());
            }
        }
    }

    #[test]
    fn ties_go_to_even_and_the_largest_overflow() {
        let round = |value| halves(paired(value, value));
        assert_eq!(round(1.0 + 1.0 / 256.0), (1.0, 1.0));
        assert_eq!(round(1.0 + 3.0 / 256.0), (1.0 + 1.0 / 64.0, 1.0 + 1.0 / 64.0));
        assert_eq!(round(f32::MAX), (f32::INFINITY, f32::INFINITY));
    }

    #[test]
    fn every_layout_gives_the_same_pairs() {
        for cols in [1, 6, 7] {
            let values: Vec<f32> = (0..5 * cols).map(|i| i as f32).collect();
            let by_row = Rounded::new(Matrix::row_major(&values, 5, cols));
            let turned: Vec<f32> = (0..5 * cols).map(|i| values[i % 5 * cols + i / 5]).collect();
            let by_column = Rounded::new(Matrix::row_major(&turned, cols, 5).t());
            let spread: Vec<f32> = values.iter().flat_map(|&value| [value, -1.0]).collect();
            let apart = Rounded::new(Matrix::new(&spread, 5, cols, 2 * cols, 2));
            assert_eq!(by_row.values, apart.values);
            let pairs = cols.div_ceil(2);
            for i in 0..5 {
                for j in 0..pairs {
                    let (a, b) = (by_row.values[i * pairs + j], by_column.values[j * 5 + i]);
                    assert_eq!(a.to_bits(), b.to_bits());
                    let second = if 2 * j + 1 < cols { values[i * cols + 2 * j + 1] } else { 0.0 };
                    assert_eq!(halves(a), (values[i * cols + 2 * j], second));
                }
            }
        }
    }
}
