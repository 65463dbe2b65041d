use std::ops::Range;

use super::{
    Gemm, Matrix, Update,
    buffer::with_buffer,
    grid::LARGE_RIGHT,
    kernels::Kernels,
    left::Panels,
    packed::{BLOCK, Packed, Strips, Which},
    tile::{Ahead, Start, Tile},
};

/// Bytes of packed right operand per pass over the rows, at most: a part of the second-level cache.
const PASS_BYTES: usize = 384 << 10;

/// Most panels of rows for which a row-major right operand is read where it is.
const DIRECT_PANELS: usize = 2;

/// Most panels of rows for which a pass is one strip, to stay in the first-level cache between
/// packing and use.
const NARROW_PANELS: usize = 6;

/// The same where the next strip is hinted at meanwhile.
const HINTED_PANELS: usize = 8;

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
    /// What will be read next, if it comes from far away.
    next: Option<Next<T>>,
}

/// The part of a right operand that is packed or read next.
#[derive(Clone, Copy)]
struct Next<T> {
    /// The first run of adjacent values.
    from: *const T,
    /// Distance of two runs.
    stride: usize,
    /// Values of a run.
    run: usize,
    runs: usize,
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
        let panels = Panels::of(&rows, kernels.max_rows());
        let block = BLOCK.min(depth);
        let pass = self.pass_columns(panels.count, block, cols.len());
        let left_len = block * self.left_width();
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
                        let right = self.right(strips, origin, first, depth, panels.count, right);
                        self.pass(panels, origin, strips, first, depth, left, &right);
                    }
                }
            }
        });
    }

    /// Columns of a pass: whole strips, and passes about equally wide.
    fn pass_columns(&self, n_panels: usize, depth: usize, cols: usize) -> usize {
        let step = self.kernels.max_cols();
        if self.is_narrow(n_panels) {
            return step;
        }
        let most = (PASS_BYTES / size_of::<T>() / depth / step).max(1) * step;
        let passes = cols.div_ceil(most).max(1);
        cols.div_ceil(passes).next_multiple_of(step).max(step)
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
                    let runs = self.kernels.max_cols();
                    let run = depth.div_ceil(runs) * runs;
                    let from = packed.block(first)[all.offset(depth, next)..].as_ptr();
                    Next { from, stride: run, run, runs }
                });
                Block { packed: block, direct: None, next }
            }
            Right::Strided(b) => {
                let direct = (b.col_stride() == 1 && n_panels <= DIRECT_PANELS).then(|| {
                    // SAFETY: the first element of the pass is inside `b`.
                    let at = unsafe { b.as_ptr().add(first * b.row_stride() + origin) };
                    (at, b.row_stride())
                });
                let which = if direct.is_some() { Which::Padded } else { Which::All };
                // SAFETY: the caller's promise.
                unsafe { strips.pack(b, first..first + depth, origin, which, buffer) };
                let next = self.next(b, strips, origin, first, depth, n_panels);
                Block { packed: buffer.as_ptr(), direct, next }
            }
        }
    }

    /// What is packed after these columns and depths of a right operand that comes from memory: the same
    /// depths of the next strip of a transposed one, the next depths of a wide pass over a row-major one.
    fn next(
        &self,
        b: Matrix<'_, T>,
        strips: Strips<T>,
        origin: usize,
        first: usize,
        depth: usize,
        n_panels: usize,
    ) -> Option<Next<T>> {
        let at = |row: usize, col: usize| {
            b.as_ptr().wrapping_add(row * b.row_stride() + col * b.col_stride())
        };
        let (col, row) = (origin + strips.cols, first + depth);
        if self.is_narrow(n_panels) {
            let runs = self.kernels.max_cols();
            return (b.row_stride() == 1 && col < b.cols()).then(|| Next {
                from: at(first, col),
                stride: b.col_stride(),
                run: depth,
                runs,
            });
        }
        let far = b.rows() * b.cols() >= LARGE_RIGHT && b.col_stride() == 1;
        (far && row < b.rows()).then(|| {
            let runs = BLOCK.min(b.rows() - row);
            Next { from: at(row, origin), stride: b.row_stride(), run: strips.cols, runs }
        })
    }

    /// Computes all rows of one pass, one block of depths.
    ///
    /// # Safety
    ///
    /// As for [`Product::part`]; `right` is the pass and block that the other arguments say.
    #[allow(clippy::too_many_arguments)]
    unsafe fn pass(
        &self,
        panels: Panels,
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
        for panel in 0..panels.count {
            let (top, end) = (panels.top(panel), panels.top(panel + 1));
            // SAFETY: rows top..end and depths first..first + depth are inside `a`.
            let (a, a_stride, by) =
                unsafe { self.left(panels, panel, first, depth, n_strips, left) };
            let left_ahead = match panel + 1 < panels.count {
                true => self.left_ahead(end, end - top, first, depth),
                false => self.left_ahead(panels.first, end - top, first + depth, depth),
            };
            for (strip, col) in (0..strips.cols).step_by(kernels.max_cols()).enumerate() {
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
                        _ => self.right_ahead(
                            right,
                            panel * n_strips + strip,
                            panels.count * n_strips,
                        ),
                    },
                };
                // SAFETY: the operands cover the tile, the caller owns this part of `c` and has
                // the instruction set.
                unsafe { kernels.tile(end - top, width, by)(&tile) };
            }
        }
    }

    /// Tile `tile` of `tiles` hints at its share of what is read next.
    fn right_ahead(&self, right: &Block<T>, tile: usize, tiles: usize) -> Ahead<T> {
        let Some(Next { from, stride, run, runs }) = right.next else { return Ahead::none() };
        let share = runs.div_ceil(tiles);
        let (first, end) = (tile * share, ((tile + 1) * share).min(runs));
        let depths = end.saturating_sub(first) * run.div_ceil(self.kernels.max_cols());
        Ahead { from: from.wrapping_add(first * stride), stride, run, depths }
    }
}
