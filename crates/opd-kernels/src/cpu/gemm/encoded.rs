//! Products with a matrix that is decoded a tile at a time.
//!
//! An output depends on its row and its column alone, and sums are cut into blocks of depths: so a
//! product that is made of products with tiles, whose depths are whole blocks, has the bits of the
//! product with all of the matrix.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Gemm, Matrix, MatrixMut, Packed, Update, buffer::with_buffer, gemm_bf16_packed, gemm_packed,
    grid, matrix, multiply, packed::BLOCK, pages::Pages, pairs::RoundedLeft, product::Right,
    tiles::Tiles,
};
use crate::{EncodedMatrix, Products, encoded::PackedValues};

/// Strips of columns that are decoded at a time.
const STRIPS: usize = 6;

/// Rows that one task decodes of a wide tile.
const TASK_ROWS: usize = 16;

/// Multiply-adds that take as long as decoding one value.
const DECODE_WORK: usize = 32;

/// A left operand as the products read it.
enum Left<'a> {
    Full(Matrix<'a, f32>),
    Bf16(RoundedLeft),
}

impl<'a> Left<'a> {
    fn new(products: Products, a: Matrix<'a, f32>) -> Self {
        match products {
            Products::Full => Self::Full(a),
            Products::Bf16 => Self::Bf16(RoundedLeft::new(a)),
        }
    }

    /// Depths whose products are summed before the sum is added to the output.
    fn block(&self) -> usize {
        match self {
            Self::Full(_) => BLOCK,
            Self::Bf16(_) => 2 * BLOCK,
        }
    }

    /// Adds the product of some depths with their part `b` of the right operand; the first depths do as
    /// `update` says.
    fn multiply(
        &self,
        threads: usize,
        c: MatrixMut<'_, f32>,
        depths: Range<usize>,
        b: Matrix<'_, f32>,
        update: Update,
    ) {
        let update = if depths.start == 0 { update } else { Update::Add };
        match self {
            Self::Full(a) => {
                let a = a.part(0..a.rows(), depths);
                multiply(f32::best(), threads, c, a, Right::Strided(b), update);
            }
            Self::Bf16(a) => a.multiply(threads, c, depths, b, update),
        }
    }
}

/// Columns of one output, written by parallel tasks.
struct Columns {
    start: *mut f32,
    rows: usize,
    row_stride: usize,
}

// SAFETY: the values are written through `part` alone, whose callers keep columns apart.
unsafe impl Sync for Columns {}

impl Columns {
    /// # Safety
    ///
    /// The columns are inside the output, and nobody else touches them while the result lives.
    unsafe fn part(&self, columns: &Range<usize>) -> MatrixMut<'_, f32> {
        let extent = self.rows.saturating_sub(1) * self.row_stride + columns.len();
        let start = self.start.wrapping_add(columns.start);
        // SAFETY: the caller's promise.
        unsafe { MatrixMut::from_raw(start, extent, self.rows, columns.len(), self.row_stride) }
    }
}

/// `c = a w^T`.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn gemm_encoded<W: Tiles + ?Sized>(
    products: Products,
    mut c: MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    w: &W,
) {
    let [n, depth] = w.shape();
    assert_eq!((c.rows(), c.cols(), a.cols()), (a.rows(), n, depth), "gemm: shapes");
    if c.rows() == 0 || n == 0 {
        return;
    }
    if depth == 0 {
        return c.fill(0.0);
    }
    match w.as_read(products) {
        Some(PackedValues::F32(right)) => return gemm_packed(c, a, &right),
        Some(PackedValues::Bf16(right)) => return gemm_bf16_packed(c, a, &right),
        None => {}
    }
    let (left, strip) = (Left::new(products, a), f32::best().max_cols());
    let strips = n.div_ceil(strip);
    let work = (c.rows() + DECODE_WORK).saturating_mul(n).saturating_mul(depth);
    let parts = grid::parts(rayon::current_num_threads(), work).min(strips);
    let (rows, row_stride) = (c.rows(), c.row_stride());
    let columns = Columns { start: c.as_mut_ptr(), rows, row_stride };
    let part = |part: usize| {
        let end = (strips * (part + 1) / parts * strip).min(n);
        let own = strips * part / parts * strip..end;
        let at_once = (STRIPS * strip).min(own.len());
        with_buffer(at_once * left.block().min(depth), |buffer: &mut [f32]| {
            for first in own.clone().step_by(at_once) {
                let own = first..own.end.min(first + at_once);
                for first in (0..depth).step_by(left.block()) {
                    let depths = first..depth.min(first + left.block());
                    let tile = &mut buffer[..own.len() * depths.len()];
                    w.decode(own.clone(), depths.clone(), tile);
                    let b = Matrix::row_major(tile, own.len(), depths.len()).t();
                    // SAFETY: parts do not overlap and are inside `c`, which this call borrows.
                    let c = unsafe { columns.part(&own) };
                    left.multiply(1, c, depths, b, Update::Set);
                }
            }
        });
    };
    match parts {
        1 => part(0),
        _ => (0..parts).into_par_iter().with_max_len(1).for_each(part),
    }
}

/// `a w^T` as rows back to back; the bits of [`gemm_encoded`].
pub(crate) fn product_encoded(
    products: Products,
    a: Matrix<'_, f32>,
    w: &EncodedMatrix,
) -> Vec<f32> {
    matrix::collect(a.rows(), w.dims()[0], |c| gemm_encoded(products, c, a, w))
}

/// `c = a w`, or `c += a w`.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn gemm_encoded_columns<W: Tiles + ?Sized>(
    products: Products,
    mut c: MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    w: &W,
    update: Update,
) {
    let [n, columns] = w.shape();
    assert_eq!((c.rows(), c.cols(), a.cols()), (a.rows(), columns, n), "gemm: shapes");
    if columns == 0 {
        return;
    }
    let (left, threads) = (Left::new(products, a), rayon::current_num_threads());
    with_buffer(left.block().min(n) * columns, |buffer: &mut [f32]| {
        for first in (0..n).step_by(left.block()) {
            let rows = first..n.min(first + left.block());
            let tile = &mut buffer[..rows.len() * columns];
            tile.par_chunks_mut(TASK_ROWS * columns).enumerate().for_each(|(task, out)| {
                let first = first + task * TASK_ROWS;
                w.decode(first..first + out.len() / columns, 0..columns, out);
            });
            let b = Matrix::row_major(tile, rows.len(), columns);
            left.multiply(threads, c.reborrow(), rows, b, update);
        }
    });
}

/// `a w` as rows back to back; the bits of [`gemm_encoded_columns`].
pub(crate) fn product_encoded_columns(
    products: Products,
    a: Matrix<'_, f32>,
    w: &EncodedMatrix,
) -> Vec<f32> {
    matrix::collect(a.rows(), w.dims()[1], |c| {
        gemm_encoded_columns(products, c, a, w, Update::Set);
    })
}

impl Packed<f32> {
    /// The transpose of `w`, packed for this machine.
    pub(crate) fn encoded(w: &EncodedMatrix) -> Self {
        let &[n, depth] = w.dims();
        Self::of_parts(f32::best(), (depth, n), Pages::passing, |depths, columns, pack| {
            decoded(w, columns, depths, |part| pack(part.t()));
        })
    }
}

/// Lends a part of `w`.
pub(super) fn decoded<W: Tiles + ?Sized>(
    w: &W,
    rows: Range<usize>,
    columns: Range<usize>,
    work: impl FnOnce(Matrix<'_, f32>),
) {
    with_buffer(rows.len() * columns.len(), |tile: &mut [f32]| {
        let (n_rows, n_columns) = (rows.len(), columns.len());
        w.decode(rows, columns, tile);
        work(Matrix::row_major(tile, n_rows, n_columns));
    });
}
