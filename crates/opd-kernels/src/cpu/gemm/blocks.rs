use super::{
    Gemm, Matrix, MatrixMut,
    kernels::Kernels,
    packed::{Strips, Which},
    tile::{Ahead, LeftBy, Start, Tile},
};

/// What happens to the values that the output of a [`Blocks::multiply`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accumulate {
    /// They are not read.
    Set,
    /// The product is added to them.
    Add,
    /// They are where each chain of multiply-adds starts.
    Continue,
}

/// Small products on the thread that asks for them: operands and results of one parallel task.
///
/// Every output is a sum in one order, that of the depth; a product that is continued is one chain of
/// multiply-adds, so one that is cut along its depth has the bits of the whole.
pub(crate) struct Blocks<T: 'static> {
    kernels: &'static Kernels<T>,
}

impl<T> Clone for Blocks<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Blocks<T> {}

/// A right operand as the tiles read it.
pub(crate) struct RightBlock<'a, T> {
    values: &'a [T],
    depth: usize,
    cols: usize,
    /// Distance of two rows where the operand is read as it is; packed otherwise.
    direct: Option<usize>,
}

impl<T: Gemm> Blocks<T> {
    /// With the widest instructions of this machine.
    pub(crate) fn new() -> Self {
        Self { kernels: T::best() }
    }

    /// Values that a packed `depth x cols` right operand takes.
    #[inline]
    pub(crate) fn packed_len(&self, depth: usize, cols: usize) -> usize {
        depth * cols.next_multiple_of(self.kernels.lanes)
    }

    /// Makes `b` readable for the tiles: as it is where its rows are whole vectors, else packed
    /// into the start of `buffer`.
    ///
    /// # Panics
    ///
    /// If it has to be packed and `buffer` is shorter than [`Blocks::packed_len`].
    #[inline]
    pub(crate) fn right<'a>(&self, b: Matrix<'a, T>, buffer: &'a mut [T]) -> RightBlock<'a, T> {
        let (depth, cols) = (b.rows(), b.cols());
        if b.col_stride() == 1 && cols.is_multiple_of(self.kernels.lanes) {
            return RightBlock { values: b.values(), depth, cols, direct: Some(b.row_stride()) };
        }
        let strips = Strips { kernels: self.kernels, cols };
        let buffer = &mut buffer[..self.packed_len(depth, cols)];
        // SAFETY: the machine has the instruction set; `b` is all that is packed.
        unsafe { strips.pack(b, 0..depth, 0, Which::All, buffer) };
        RightBlock { values: buffer, depth, cols, direct: None }
    }

    /// `c = a b`, `c += a b` or a continued chain, with as many of the first columns and rows of
    /// `b` as `c` and `a` ask for.
    ///
    /// # Panics
    ///
    /// If the shapes do not agree, or neither stride of `a` is 1.
    #[inline]
    pub(crate) fn multiply(
        &self,
        mut c: MatrixMut<'_, T>,
        a: Matrix<'_, T>,
        b: &RightBlock<'_, T>,
        accumulate: Accumulate,
    ) {
        assert!(c.rows() == a.rows() && c.cols() <= b.cols && a.cols() <= b.depth, "shapes");
        assert!(a.row_stride() == 1 || a.col_stride() == 1, "left operand is scattered");
        let kernels = self.kernels;
        let strips = Strips { kernels, cols: b.cols };
        let start = match accumulate {
            Accumulate::Set => Start::Zero,
            Accumulate::Add => Start::ZeroThenAdd,
            Accumulate::Continue => Start::Values,
        };
        let (left, a_stride) = match a.col_stride() {
            1 => (LeftBy::Row, a.row_stride()),
            stride => (LeftBy::Column, stride),
        };
        let (rows, cols) = (c.rows(), c.cols());
        let (c_start, c_stride) = (c.as_mut_ptr(), c.row_stride());
        if a.cols() == 0 && accumulate != Accumulate::Set {
            return;
        }
        let n_panels = rows.div_ceil(kernels.max_rows());
        for panel in 0..n_panels {
            let (top, end) = (rows * panel / n_panels, rows * (panel + 1) / n_panels);
            for col in (0..cols).step_by(kernels.max_cols()) {
                let width = strips.width(col);
                let (b_start, b_stride) = match b.direct {
                    Some(stride) => (col, stride),
                    None => (strips.offset(b.depth, col), width),
                };
                // SAFETY: tile and operands are inside `c`, `a` and `b`, which `Matrix`,
                // `MatrixMut` and `Blocks::right` checked; a right operand that is read as it is
                // has whole vectors, a packed one is padded to them; the machine has the
                // instruction set.
                unsafe {
                    let tile = Tile {
                        depth: a.cols(),
                        a: a.as_ptr().wrapping_add(top * a.row_stride()),
                        a_stride,
                        b: b.values.as_ptr().wrapping_add(b_start),
                        b_stride,
                        c: c_start.wrapping_add(top * c_stride + col),
                        c_stride,
                        cols: width.min(cols - col),
                        start,
                        ahead: Ahead::none(),
                    };
                    kernels.tile(end - top, width, left)(&tile);
                }
            }
        }
    }
}

impl<T> RightBlock<'_, T> {
    /// Rows of the operand.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
}
