use std::ops::Range;

use rayon::prelude::*;

use super::{Gemm, Matrix, kernels::Kernels, pack::Strip, pages::Pages};

/// Products that one accumulator sums before the sum is added to the output.
///
/// Part of the definition of a result: the sums of these blocks are added in order.
pub(crate) const BLOCK: usize = 256;

/// Strips that one task packs: some 10 microseconds.
const PART_STRIPS: usize = 8;

/// Rows of a row-major right operand that are packed in step: few, so that each is read from end to end
/// though its pieces go to strips far apart.
pub(super) const ROWS_IN_STEP: usize = 4;

/// A right operand in the order in which the kernels read it.
pub(crate) struct Packed<T: 'static> {
    kernels: &'static Kernels<T>,
    values: Pages<T>,
    rows: usize,
    cols: usize,
}

impl<T: Gemm> Packed<T> {
    /// Packs `b` for this machine, for a while.
    pub(crate) fn new(b: Matrix<'_, T>) -> Self {
        Self::of(T::best(), b, Pages::passing)
    }

    /// Packs `b` for this machine, to be held for long.
    pub(crate) fn held(b: Matrix<'_, T>) -> Self {
        Self::of(T::best(), b, Pages::held)
    }

    /// Packs `b` for kernels that this machine can run, in memory that `zeros` gives.
    pub(super) fn of(
        kernels: &'static Kernels<T>,
        b: Matrix<'_, T>,
        zeros: fn(usize) -> Pages<T>,
    ) -> Self {
        let part = |rows, cols, pack: &mut dyn FnMut(Matrix<'_, T>)| pack(b.part(rows, cols));
        Self::of_parts(kernels, (b.rows(), b.cols()), zeros, part)
    }

    /// Packs a matrix of `rows x cols`, any part of which `part` makes and lends to the function that
    /// it is given: the whole of it need not exist.
    ///
    /// # Panics
    ///
    /// If a part has another size than was asked for.
    pub(super) fn of_parts(
        kernels: &'static Kernels<T>,
        (rows, cols): (usize, usize),
        zeros: fn(usize) -> Pages<T>,
        part: impl Fn(Range<usize>, Range<usize>, &mut dyn FnMut(Matrix<'_, T>)) + Sync,
    ) -> Self {
        let strips = Strips { kernels, cols };
        let mut values = zeros(rows * strips.padded());
        let blocks = values.chunks_mut((BLOCK * strips.padded()).max(1));
        let step = PART_STRIPS * kernels.max_cols();
        for (first, block) in (0..rows).step_by(BLOCK).zip(blocks) {
            let depth = BLOCK.min(rows - first);
            block.par_chunks_mut((depth * step).max(1)).enumerate().for_each(|(i, to)| {
                let columns = i * step..cols.min((i + 1) * step);
                let strips = Strips { kernels, cols: columns.len() };
                part(first..first + depth, columns, &mut |b| {
                    assert_eq!((b.rows(), b.cols()), (depth, strips.cols), "a part's size");
                    // SAFETY: the machine can run the kernels, and `b` is all that is packed.
                    unsafe { strips.pack(b, 0..depth, 0, Which::All, to) };
                });
            });
        }
        Self { kernels, values, rows, cols }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that the values take.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of_val(&*self.values)
    }

    pub(super) fn kernels(&self) -> &'static Kernels<T> {
        self.kernels
    }

    /// The value of a row and a column.
    pub(crate) fn at(&self, row: usize, col: usize) -> T {
        let strips = Strips { kernels: self.kernels, cols: self.cols };
        let (first, within) = (row / BLOCK * BLOCK, row % BLOCK);
        let depth = BLOCK.min(self.rows - first);
        let lane = col % self.kernels.max_cols();
        let (start, width) = (strips.offset(depth, col - lane), strips.width(col - lane));
        self.block(first)[start + within * width + lane]
    }

    /// The strips of the block of rows that starts at `first`.
    pub(super) fn block(&self, first: usize) -> &[T] {
        let strips = Strips { kernels: self.kernels, cols: self.cols };
        &self.values[first * strips.padded()..]
    }
}

/// How the columns of a right operand are cut into strips, one per tile.
///
/// Strips of one block of depths lie back to back. All are as wide as the widest tile but the
/// last, which is as wide as the vectors it needs.
#[derive(Clone, Copy)]
pub(super) struct Strips<T: 'static> {
    pub(super) kernels: &'static Kernels<T>,
    pub(super) cols: usize,
}

/// Strips that are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those that do not fill whole vectors: others are read where they are.
    Padded,
}

impl<T> Strips<T> {
    /// Columns with padding.
    pub(super) fn padded(&self) -> usize {
        self.cols.next_multiple_of(self.kernels.lanes)
    }

    /// Width of the strip that starts at `col`.
    pub(super) fn width(&self, col: usize) -> usize {
        self.kernels.max_cols().min(self.padded() - col)
    }

    /// Where the strip that starts at `col` starts in a packed block of `depth` rows.
    pub(super) fn offset(&self, depth: usize, col: usize) -> usize {
        depth * col
    }

    /// Packs `rows` of the columns from `origin` on, each strip to its place in `to`.
    ///
    /// # Safety
    ///
    /// The rows and columns are inside `b`; the machine has the instruction set of the kernels.
    ///
    /// # Panics
    ///
    /// If `to` ends before a strip does.
    pub(super) unsafe fn pack(
        &self,
        b: Matrix<'_, T>,
        rows: Range<usize>,
        origin: usize,
        which: Which,
        to: &mut [T],
    ) {
        let depth = rows.len();
        let in_step = if b.col_stride() == 1 { ROWS_IN_STEP } else { depth.max(1) };
        for row in (0..depth).step_by(in_step) {
            let n = in_step.min(depth - row);
            for col in (0..self.cols).step_by(self.kernels.max_cols()) {
                let width = self.width(col);
                if which == Which::Padded && col + width <= self.cols {
                    continue;
                }
                let to = &mut to[self.offset(depth, col) + row * width..][..n * width];
                // SAFETY: the caller's promise; `to` is where the strip has these rows.
                unsafe { self.pack_strip(&b, rows.start + row, n, origin, col, to.as_mut_ptr()) };
            }
        }
    }

    /// Packs rows `first..first + depth` of the strip that starts `col` after column `origin`.
    ///
    /// # Safety
    ///
    /// The strip is inside `b`; `to` covers `depth * width(col)` values that nobody else
    /// touches; the machine has the instruction set of the kernels.
    unsafe fn pack_strip(
        &self,
        b: &Matrix<'_, T>,
        first: usize,
        depth: usize,
        origin: usize,
        col: usize,
        to: *mut T,
    ) {
        let from = first * b.row_stride() + (origin + col) * b.col_stride();
        let strip = Strip {
            // SAFETY: the first element of the strip is inside `b`.
            from: unsafe { b.as_ptr().add(from) },
            depth_stride: b.row_stride(),
            lane_stride: b.col_stride(),
            depth,
            lanes: self.width(col).min(self.cols - col),
            width: self.width(col),
        };
        // SAFETY: the caller's promise.
        unsafe { (self.kernels.pack)(&strip, to) }
    }
}
