use super::{Gemm, Matrix, kernels::Kernels, pack::Strip};

/// Products that one accumulator sums before the sum is added to the output.
///
/// Part of the definition of a result: the sums of these blocks are added in order.
pub(super) const BLOCK: usize = 256;

/// A right operand in the order in which the kernels read it.
pub(crate) struct Packed<T: 'static> {
    kernels: &'static Kernels<T>,
    values: Vec<T>,
    rows: usize,
    cols: usize,
}

impl<T: Gemm> Packed<T> {
    /// Packs `b` for this machine.
    pub(crate) fn new(b: Matrix<'_, T>) -> Self {
        Self::of(T::best(), b)
    }

    /// Packs `b` for kernels that this machine can run.
    pub(super) fn of(kernels: &'static Kernels<T>, b: Matrix<'_, T>) -> Self {
        let strips = Strips { kernels, cols: b.cols() };
        let mut values = vec![T::ZERO; b.rows() * strips.padded()];
        for first in (0..b.rows()).step_by(BLOCK) {
            let depth = BLOCK.min(b.rows() - first);
            for col in (0..b.cols()).step_by(kernels.max_cols()) {
                let to = &mut values[first * strips.padded() + strips.offset(depth, col)..];
                // SAFETY: the machine can run the kernels; the strip is inside `b`, its packed form
                // inside `to`, which is borrowed here alone.
                unsafe { strips.pack(b, first, depth, 0, col, to.as_mut_ptr()) };
            }
        }
        Self { kernels, values, rows: b.rows(), cols: b.cols() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn kernels(&self) -> &'static Kernels<T> {
        self.kernels
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

    /// Packs rows `first..first + depth` of the strip that starts `col` after column `origin`.
    ///
    /// # Safety
    ///
    /// The strip is inside `b`; `to` covers `depth * width(col)` values that nobody else
    /// touches; the machine has the instruction set of the kernels.
    pub(super) unsafe fn pack(
        &self,
        b: Matrix<'_, T>,
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
