//! Matrix product whose every element has one fixed order of accumulation.

mod matrix;

pub(crate) use self::matrix::{Matrix, MatrixMut};
use super::Element;

/// What happens to the values that the output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// They are not read.
    Set,
    /// The product is added to them.
    Add,
}

/// A dtype that has matrix product kernels.
pub(crate) trait Gemm: Element {}

impl Gemm for f32 {}
impl Gemm for f64 {}

/// `c = a b`, or `c += a b`, over all threads of the current rayon pool where it is worth it.
pub(crate) fn gemm<T: Gemm>(
    c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    update: Update,
) {
    gemm_serial(c, a, b, update);
}

/// [`gemm`] on the calling thread; same bits.
pub(crate) fn gemm_serial<T: Gemm>(
    mut c: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    update: Update,
) {
    assert_eq!((c.rows(), c.cols(), a.cols()), (a.rows(), b.cols(), b.rows()), "gemm: shapes");
    for i in 0..c.rows() {
        for j in 0..c.cols() {
            let mut sum = T::ZERO;
            for k in 0..a.cols() {
                // SAFETY: pointers of the matrices; `Matrix::new` checked that every (row, col)
                // is inside; only read.
                unsafe {
                    sum += *a.as_ptr().add(i * a.row_stride() + k * a.col_stride())
                        * *b.as_ptr().add(k * b.row_stride() + j * b.col_stride());
                }
            }
            // SAFETY: `MatrixMut::new` checked that (i, j) is inside; this thread alone writes.
            unsafe {
                let at = c.as_mut_ptr().add(i * c.row_stride() + j);
                *at = if update == Update::Add { *at + sum } else { sum };
            }
        }
    }
}
