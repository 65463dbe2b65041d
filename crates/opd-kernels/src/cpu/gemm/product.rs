use std::ops::Range;

use super::{
    Gemm, Matrix, Update,
    buffer::with_buffer,
    kernels::Kernels,
    pack::Strip,
    packed::{BLOCK, Packed, Strips},
    tile::{Ahead, LeftBy, Start, Tile},
};

/// Bytes of packed right operand per pass over the rows: a part of the second-level cache.
const PASS_BYTES: usize = 512 << 10;

/// Most panels of rows for which a row-major right operand is read where it is.
const DIRECT_PANELS: usize = 2;

/// Most strips of columns for which a left operand is read where it is.
const DIRECT_STRIPS: usize = 6;

/// Most panels of rows for which a pass is one strip, to stay in the first-level cache between
/// packing and use.
const NARROW_PANELS: usize = 6;

/// The same where the next strip is hinted at meanwhile.
const HINTED_PANELS: usize = 8;

/// Values of a left operand that come from memory whenever they are read.
const LARGE_LEFT: usize = 1 << 20;

/// A right operand.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, T: 'static> {
    Strided(Matrix<'a, T>),
    Packed(&'a Packed<T>),
}

/// One product, to be computed part by part.
pub(super) struct Product<'a, T: 'static> {
    pub(super) kernels: &'static Kernels<T>,
    pub(super) c: *mut T,
    pub(super) c_stride: usize,
    pub(super) a: Matrix<'a, T>,
    pub(super) b: Right<'a, T>,
    pub(super) update: Update,
}

// SAFETY: `c` is written through `part` only, whose callers split it among the threads.
unsafe impl<T: Sync> Sync for Product<'_, T> {}

/// Where a pass of the right operand is, for one block of depths.
struct Block<T> {
    packed: *const T,
    /// Where it is unpacked, and the distance of its rows; then strips that fill whole vectors
    /// are not packed.
    direct: Option<(*const T, usize)>,
    /// The same depths of the next pass, if it is one strip and read from far away: its first
    /// run and the distance of two.
    next: Option<(*const T, usize)>,
}

impl<T: Gemm> Product<'_, T> {
    /// Computes rows `rows` and columns `cols` of `c`.
    ///
    /// # Safety
    ///
    /// The machine has the instruction set of the kernels; the shapes of `a`, `b` and the part
    /// agree; `c` covers the part, which no other thread touches; `cols` starts at a multiple of
    /// the widest tile.
    pub(super) unsafe fn part(&self, rows: Range<usize>, cols: Range<usize>) {
        let kernels = self.kernels;
        let depth = self.a.cols();
        let n_panels = rows.len().div_ceil(kernels.max_rows());
        let block = BLOCK.min(depth);
        let step = kernels.max_cols();
        let pass = match self.is_narrow(n_panels) {
            true => step,
            false => (PASS_BYTES / size_of::<T>() / BLOCK / step).max(1) * step,
        };
        let left_len = block * kernels.max_rows().next_multiple_of(kernels.lanes);
        let right_len = block * pass.min(cols.len().next_multiple_of(kernels.lanes));
        with_buffer(left_len + right_len, |buffer: &mut [T]| {
            let (left, right) = buffer.split_at_mut(left_len);
            for origin in cols.clone().step_by(pass) {
                let strips = Strips { kernels, cols: pass.min(cols.end - origin) };
                for first in (0..depth).step_by(BLOCK) {
                    let depth = BLOCK.min(depth - first);
                    // SAFETY: the caller's promise; the pass is inside the part, the block inside
                    // the depth.
                    unsafe {
                        let right = self.right(strips, origin, first, depth, n_panels, right);
                        self.pass(&rows, n_panels, origin, strips, first, depth, left, &right);
                    }
                }
            }
        });
    }

    /// Whether a pass over this many panels of rows is one strip.
    fn is_narrow(&self, n_panels: usize) -> bool {
        let most = match self.b {
            Right::Strided(b) if b.row_stride() != 1 => NARROW_PANELS,
            _ => HINTED_PANELS,
        };
        n_panels <= most
    }

    /// Packs a pass of the right operand, if it needs to be.
    ///
    /// # Safety
    ///
    /// As for [`Product::part`]; the pass and the block are inside the right operand.
    unsafe fn right(
        &self,
        strips: Strips<T>,
        origin: usize,
        first: usize,
        depth: usize,
        n_panels: usize,
        buffer: &mut [T],
    ) -> Block<T> {
        match self.b {
            Right::Packed(packed) => {
                let all = Strips { kernels: self.kernels, cols: packed.cols() };
                let block = packed.block(first)[all.offset(depth, origin)..].as_ptr();
                let next = origin + strips.cols;
                let next = (self.is_narrow(n_panels) && next < packed.cols()).then(|| {
                    let width = self.kernels.max_cols();
                    let run = depth.div_ceil(width) * width;
                    (packed.block(first)[all.offset(depth, next)..].as_ptr(), run)
                });
                Block { packed: block, direct: None, next }
            }
            Right::Strided(b) => {
                let direct = (b.col_stride() == 1 && n_panels <= DIRECT_PANELS).then(|| {
                    // SAFETY: the first element of the pass is inside `b`.
                    let at = unsafe { b.as_ptr().add(first * b.row_stride() + origin) };
                    (at, b.row_stride())
                });
                for col in (0..strips.cols).step_by(self.kernels.max_cols()) {
                    if direct.is_some() && col + strips.width(col) <= strips.cols {
                        continue;
                    }
                    let to = &mut buffer[strips.offset(depth, col)..][..depth * strips.width(col)];
                    // SAFETY: the caller's promise; `to` has the length of the packed strip.
                    unsafe { strips.pack(b, first, depth, origin, col, to.as_mut_ptr()) };
                }
                let next = origin + strips.cols;
                let apart = self.is_narrow(n_panels) && b.row_stride() == 1;
                let next = (apart && next < b.cols()).then(|| {
                    // SAFETY: the first element of the next pass is inside `b`.
                    let at = unsafe { b.as_ptr().add(first + next * b.col_stride()) };
                    (at, b.col_stride())
                });
                Block { packed: buffer.as_ptr(), direct, next }
            }
        }
    }

    /// Computes all rows of one pass, one block of depths.
    ///
    /// # Safety
    ///
    /// As for [`Product::part`]; `right` is the pass and block that the other arguments say.
    #[allow(clippy::too_many_arguments)]
    unsafe fn pass(
        &self,
        rows: &Range<usize>,
        n_panels: usize,
        origin: usize,
        strips: Strips<T>,
        first: usize,
        depth: usize,
        left: &mut [T],
        right: &Block<T>,
    ) {
        let kernels = self.kernels;
        let start = match self.update {
            Update::Set if first == 0 => Start::Zero,
            Update::Set | Update::Add => Start::ZeroThenAdd,
        };
        let n_strips = strips.cols.div_ceil(kernels.max_cols());
        for panel in 0..n_panels {
            let top = rows.start + rows.len() * panel / n_panels;
            let end = rows.start + rows.len() * (panel + 1) / n_panels;
            // SAFETY: rows top..end and depths first..first + depth are inside `a`.
            let (a, a_stride, by) = unsafe { self.left(top..end, first, depth, n_strips, left) };
            // Each panel hints at its share.
            let right_ahead = right.next.map_or(Ahead::none(), |(from, stride)| {
                let runs = kernels.max_cols().div_ceil(n_panels);
                let depths = depth.div_ceil(n_panels);
                Ahead { from: from.wrapping_add(panel * runs * stride), stride, run: depth, depths }
            });
            let left_ahead = match panel + 1 < n_panels {
                true => self.left_ahead(end, end - top, first, depth),
                false => self.left_ahead(rows.start, end - top, first + depth, depth),
            };
            for col in (0..strips.cols).step_by(kernels.max_cols()) {
                let width = strips.width(col);
                let (b, b_stride) = match right.direct {
                    // SAFETY: the strip is inside the pass.
                    Some((at, stride)) if col + width <= strips.cols => unsafe {
                        (at.add(col), stride)
                    },
                    // SAFETY: as above.
                    _ => unsafe { (right.packed.add(strips.offset(depth, col)), width) },
                };
                let tile = Tile {
                    depth,
                    a,
                    a_stride,
                    b,
                    b_stride,
                    // SAFETY: the tile is inside the part.
                    c: unsafe { self.c.add(top * self.c_stride + origin + col) },
                    c_stride: self.c_stride,
                    cols: width.min(strips.cols - col),
                    start,
                    ahead: match left_ahead {
                        Some(ahead) if col == 0 => ahead,
                        _ => right_ahead,
                    },
                };
                // SAFETY: the operands cover the tile, the caller owns this part of `c` and has
                // the instruction set.
                unsafe { kernels.tile(end - top, width, by)(&tile) };
            }
        }
    }

    /// A hint at `rows` rows from `top` and `depth` depths from `first` of a left operand that comes
    /// from memory, where rows or columns of it are adjacent.
    fn left_ahead(&self, top: usize, rows: usize, first: usize, depth: usize) -> Option<Ahead<T>> {
        let a = self.a;
        if a.rows() * a.cols() < LARGE_LEFT || first >= a.cols() {
            return None;
        }
        let from = a.as_ptr().wrapping_add(top * a.row_stride() + first * a.col_stride());
        let runs_of = |run: usize, runs: usize, stride| {
            let depths = runs * run.div_ceil(self.kernels.max_cols());
            Some(Ahead { from, stride, run, depths })
        };
        match (a.row_stride(), a.col_stride()) {
            (stride, 1) => runs_of(depth, rows, stride),
            (1, stride) => runs_of(rows, depth, stride),
            _ => None,
        }
    }

    /// A panel of the left operand, packed into `buffer` if it needs to be.
    ///
    /// # Safety
    ///
    /// As for [`Product::part`]; the panel is inside `a`, at most as high as the highest tile.
    unsafe fn left(
        &self,
        rows: Range<usize>,
        first: usize,
        depth: usize,
        n_strips: usize,
        buffer: &mut [T],
    ) -> (*const T, usize, LeftBy) {
        let a = self.a;
        // SAFETY: the first element of the panel is inside `a`.
        let from = unsafe { a.as_ptr().add(rows.start * a.row_stride() + first * a.col_stride()) };
        if a.row_stride() == 1 && n_strips <= DIRECT_STRIPS {
            return (from, a.col_stride(), LeftBy::Column);
        }
        if a.col_stride() == 1 && n_strips <= DIRECT_STRIPS {
            return (from, a.row_stride(), LeftBy::Row);
        }
        let width = self.kernels.max_rows().next_multiple_of(self.kernels.lanes);
        let strip = Strip {
            from,
            depth_stride: a.col_stride(),
            lane_stride: a.row_stride(),
            depth,
            lanes: rows.len(),
            width,
        };
        let to = &mut buffer[..depth * width];
        // SAFETY: the strip is inside `a`, its packed form has the length of `to`.
        unsafe { (self.kernels.pack)(&strip, to.as_mut_ptr()) };
        (to.as_ptr(), width, LeftBy::Column)
    }
}
