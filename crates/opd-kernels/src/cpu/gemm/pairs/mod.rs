//! Products of f32 matrices whose operands are rounded to bf16 and whose sums are f32.
//!
//! Two adjacent depths of an operand, rounded, lie in the 32 bits of one `f32`: the first in the
//! low half, the second in the high half. Packing and tiles move such pairs as they move `f32`;
//! only their multiply-add knows better. An output is, as in [`super`], a sum of chains of
//! multiply-adds in one fixed order, one pair of depths at a time, in blocks of
//! [`super::packed::BLOCK`] pairs.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod rounded;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::rounded::Rounded;
pub(crate) use self::rounded::{nearest_bf16, round};
use super::{
    Matrix, MatrixMut, Packed, Update, encoded::decoded, kernels::Kernels, matrix, multiply,
    pages::Pages, product::Right, tiles::Tiles,
};

/// `c = a b`, or `c += a b`, with `a` and `b` rounded to bf16.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn gemm_bf16(
    c: MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    update: Update,
) {
    multiply_bf16(best(), rayon::current_num_threads(), c, a, b, update);
}

/// `a b` with both rounded to bf16, as rows back to back; the bits of [`gemm_bf16`].
pub(crate) fn product_bf16(a: Matrix<'_, f32>, b: Matrix<'_, f32>) -> Vec<f32> {
    matrix::collect(a.rows(), b.cols(), |c| gemm_bf16(c, a, b, Update::Set))
}

/// A right operand, rounded to bf16, in the order in which the kernels read it.
pub(crate) struct PackedPairs {
    pairs: Packed<f32>,
    rows: usize,
}

impl PackedPairs {
    /// Rounds and packs `b` for this machine, for a while.
    pub(crate) fn new(b: Matrix<'_, f32>) -> Self {
        Self::of(best(), b, Pages::passing)
    }

    /// Rounds and packs `b` for this machine, to be held for long.
    pub(crate) fn held(b: Matrix<'_, f32>) -> Self {
        Self::of(best(), b, Pages::held)
    }

    /// The transpose of `w`, rounded and packed for this machine.
    pub(crate) fn encoded<W: Tiles + ?Sized>(w: &W) -> Self {
        let [cols, rows] = w.shape();
        let size = (rows.div_ceil(2), cols);
        let pairs = Packed::of_parts(best(), size, Pages::passing, |pairs, cols, pack| {
            decoded(w, cols, 2 * pairs.start..rows.min(2 * pairs.end), |part| {
                pack(Rounded::new(part).pairs().t());
            });
        });
        Self { pairs, rows }
    }

    fn of(
        kernels: &'static Kernels<f32>,
        b: Matrix<'_, f32>,
        zeros: fn(usize) -> Pages<f32>,
    ) -> Self {
        let rows = b.rows();
        let size = (rows.div_ceil(2), b.cols());
        let pairs = Packed::of_parts(kernels, size, zeros, |pairs, cols, pack| {
            let part = b.part(2 * pairs.start..rows.min(2 * pairs.end), cols);
            pack(Rounded::new(part.t()).pairs().t());
        });
        Self { pairs, rows }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.pairs.cols()
    }

    /// Bytes that the pairs take.
    pub(crate) fn n_bytes(&self) -> usize {
        self.pairs.n_bytes()
    }

    /// The value of a row and a column, as rounded.
    pub(crate) fn at(&self, row: usize, col: usize) -> f32 {
        let pair = self.pairs.at(row / 2, col).to_bits();
        f32::from_bits(if row.is_multiple_of(2) { pair << 16 } else { pair & 0xffff_0000 })
    }
}

/// [`product_bf16`] with a right operand packed beforehand; same bits.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn product_bf16_packed(a: Matrix<'_, f32>, b: &PackedPairs) -> Vec<f32> {
    matrix::collect(a.rows(), b.cols(), |c| gemm_bf16_packed(c, a, b))
}

/// [`gemm_bf16`] that sets `c`, with a right operand packed beforehand; same bits.
///
/// # Panics
///
/// If the shapes do not agree.
pub(crate) fn gemm_bf16_packed(c: MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: &PackedPairs) {
    assert_eq!(a.cols(), b.rows, "gemm: shapes");
    let a = Rounded::new(a);
    let threads = rayon::current_num_threads();
    let right = Right::Packed(&b.pairs);
    multiply(b.pairs.kernels(), threads, c, a.pairs(), right, Update::Set);
}

/// A left operand that is rounded once and multiplied some depths at a time.
pub(super) struct RoundedLeft(Rounded);

impl RoundedLeft {
    pub(super) fn new(a: Matrix<'_, f32>) -> Self {
        Self(Rounded::new(a))
    }

    /// The product of some depths, of which the first is even, with their part `b` of the right
    /// operand.
    pub(super) fn multiply(
        &self,
        threads: usize,
        c: MatrixMut<'_, f32>,
        depths: Range<usize>,
        b: Matrix<'_, f32>,
        update: Update,
    ) {
        let (a, b) = (self.0.pairs(), Rounded::new(b.t()));
        let a = a.part(0..a.rows(), depths.start / 2..depths.end.div_ceil(2));
        multiply(best(), threads, c, a, Right::Strided(b.pairs().t()), update);
    }
}

fn multiply_bf16(
    kernels: &'static Kernels<f32>,
    threads: usize,
    c: MatrixMut<'_, f32>,
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    update: Update,
) {
    assert_eq!(a.cols(), b.rows(), "gemm: shapes");
    let (a, b) = (Rounded::new(a), Rounded::new(b.t()));
    multiply(kernels, threads, c, a.pairs(), Right::Strided(b.pairs().t()), update);
}

/// Kernels of every instruction set that this machine has, widest first, and their names.
fn available() -> impl Iterator<Item = (&'static str, &'static Kernels<f32>)> {
    [
        #[cfg(target_arch = "x86_64")]
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"))
            .then_some(("AVX-512 BF16", &avx512::PAIRS)),
        #[cfg(target_arch = "x86_64")]
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
            .then_some(("AVX2", &avx2::PAIRS)),
        Some(("portable", &portable::PAIRS)),
    ]
    .into_iter()
    .flatten()
}

fn best() -> &'static Kernels<f32> {
    available().next().map_or(&portable::PAIRS, |(_, kernels)| kernels)
}

/// [`Lanes`](super::lanes::Lanes) of pairs: those of `f32`, but for the multiply-add.
macro_rules! pair_lanes {
    ($lanes:ident = $base:ty, $vector:ty, |$a:ident, $b:ident, $c:ident| $mul_add:block) => {
        struct $lanes;

        // SAFETY of every block: the caller has the instruction set, and pointers that cover what
        // `Lanes` says.
        impl Lanes for $lanes {
            type Scalar = f32;
            type Vector = $vector;
            const COUNT: usize = <$base>::COUNT;
            const GROUP: usize = <$base>::GROUP;

            #[inline(always)]
            unsafe fn zero() -> $vector {
                // SAFETY: see above.
                unsafe { <$base>::zero() }
            }

            #[inline(always)]
            unsafe fn splat(from: *const f32) -> $vector {
                // SAFETY: see above.
                unsafe { <$base>::splat(from) }
            }

            #[inline(always)]
            unsafe fn load(from: *const f32) -> $vector {
                // SAFETY: see above.
                unsafe { <$base>::load(from) }
            }

            #[inline(always)]
            unsafe fn load_head(from: *const f32, n: usize) -> $vector {
                // SAFETY: see above.
                unsafe { <$base>::load_head(from, n) }
            }

            #[inline(always)]
            unsafe fn store(to: *mut f32, values: $vector) {
                // SAFETY: see above.
                unsafe { <$base>::store(to, values) }
            }

            #[inline(always)]
            unsafe fn store_head(to: *mut f32, n: usize, values: $vector) {
                // SAFETY: see above.
                unsafe { <$base>::store_head(to, n, values) }
            }

            #[inline(always)]
            unsafe fn prefetch(to: *mut f32) {
                // SAFETY: see above.
                unsafe { <$base>::prefetch(to) }
            }

            #[inline(always)]
            unsafe fn prefetch_ahead(from: *const f32) {
                // SAFETY: see above.
                unsafe { <$base>::prefetch_ahead(from) }
            }

            #[inline(always)]
            unsafe fn add(a: $vector, b: $vector) -> $vector {
                // SAFETY: see above.
                unsafe { <$base>::add(a, b) }
            }

            /// Of sums `c` and pairs `a` and `b`.
            #[inline(always)]
            unsafe fn mul_add($a: $vector, $b: $vector, $c: $vector) -> $vector $mul_add

            #[inline(always)]
            unsafe fn transpose(
                row: impl Fn(usize) -> *const f32,
                to: *mut f32,
                to_stride: usize,
            ) {
                // SAFETY: see above.
                unsafe { <$base>::transpose(row, to, to_stride) }
            }
        }
    };
}
use pair_lanes;
