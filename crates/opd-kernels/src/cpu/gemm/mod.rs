//! Matrix product whose every element has one fixed order of accumulation.
//!
//! Output `(i, j)` depends on row `i` of the left operand, column `j` of the right one and
//! nothing else: it is the sum, in order, of the sums of blocks of depths, each of which is the sum, in
//! order, of chains of multiply-adds in order. Tiles, threads and the number of rows only decide when and
//! where that happens.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod buffer;
mod encoded;
mod grid;
mod kernels;
mod lanes;
mod left;
mod matrix;
mod narrow;
mod pack;
mod packed;
mod pages;
mod pairs;
mod portable;
mod product;
#[cfg(test)]
mod tests;
mod tile;
mod tiles;

use rayon::prelude::*;

pub(crate) use self::{
    blocks::{Accumulate, Blocks, RightBlock},
    buffer::with_buffer,
    encoded::{gemm_encoded, gemm_encoded_columns, product_encoded, product_encoded_columns},
    kernels::Gemm,
    matrix::{Matrix, MatrixMut},
    narrow::{add_narrow, product_narrow},
    packed::{BLOCK as DEPTHS, Packed},
    pairs::{
        PackedPairs, gemm_bf16, gemm_bf16_packed, nearest_bf16, product_bf16, product_bf16_packed,
        round,
    },
    tiles::{RowTiles, TensorTiles, Tiles},
};
use self::{
    grid::Grid,
    kernels::Kernels,
    product::{Product, Right},
};

/// What happens to the values that the output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// They are not read.
    Set,
    /// The product is added to them.
    Add,
}

/// `c = a b`, or `c += a b`, over the threads of the current rayon pool where it is worth it.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn gemm<T: Gemm>(
    c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    update: Update,
) {
    let threads = rayon::current_num_threads();
    multiply(T::best(), threads, c, a, Right::Strided(b), update);
}

/// `a b` as rows back to back; the bits of [`gemm`].
pub(crate) fn product<T: Gemm>(a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<T> {
    let threads = rayon::current_num_threads();
    matrix::collect(a.rows(), b.cols(), |c| {
        multiply(T::best(), threads, c, a, Right::Strided(b), Update::Set);
    })
}

/// [`product`] with a right operand packed beforehand; same bits.
pub(crate) fn product_packed<T: Gemm>(a: Matrix<'_, T>, b: &Packed<T>) -> Vec<T> {
    matrix::collect(a.rows(), b.cols(), |c| gemm_packed(c, a, b))
}

/// [`gemm`] that sets `c`, with a right operand packed beforehand; same bits.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn gemm_packed<T: Gemm>(c: MatrixMut<'_, T>, a: Matrix<'_, T>, b: &Packed<T>) {
    let threads = rayon::current_num_threads();
    multiply(b.kernels(), threads, c, a, Right::Packed(b), Update::Set);
}

/// `c = a b` or `c += a b` with kernels that the machine can run.
fn multiply<T: Gemm>(
    kernels: &'static Kernels<T>,
    threads: usize,
    mut c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Right<'_, T>,
    update: Update,
) {
    let (b_rows, b_cols, by_row) = match b {
        Right::Strided(b) => (b.rows(), b.cols(), b.row_stride() != 1),
        Right::Packed(b) => (b.rows(), b.cols(), false),
    };
    assert_eq!((c.rows(), c.cols(), a.cols()), (a.rows(), b_cols, b_rows), "gemm: shapes");
    if c.rows() == 0 || c.cols() == 0 {
        return;
    }
    if a.cols() == 0 {
        if update == Update::Set {
            c.fill(T::ZERO);
        }
        return;
    }
    let (rows, cols) = (c.rows(), c.cols());
    let c_stride = c.row_stride();
    let product = Product { kernels, c: c.as_mut_ptr(), c_stride, a, b, update };
    let grid = Grid::new(kernels, threads, rows, cols, a.cols(), by_row);
    let part = |i: usize| {
        let (rows, cols) = grid.part(i);
        // SAFETY: the machine can run the kernels; shapes agree, as asserted above; parts are inside `c`
        // and do not overlap, and `c` is borrowed mutably by this call.
        unsafe { product.part(rows, cols) }
    };
    if grid.len() == 1 {
        part(0);
    } else {
        (0..grid.len()).into_par_iter().with_max_len(1).for_each(part);
    }
}
