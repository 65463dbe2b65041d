use std::ops::Range;

use super::{
    Gemm,
    pack::Strip,
    product::Product,
    tile::{Ahead, LeftBy},
};

/// Lines at a multiple of this distance share few sets of the first-level cache.
const ALIASED_BYTES: usize = 2048;

/// Rows that such a set holds at least.
const WAYS: usize = 8;

/// Whether rows or columns at this distance share few sets of the first-level cache.
fn is_aliased<T>(stride: usize) -> bool {
    (stride * size_of::<T>()).is_multiple_of(ALIASED_BYTES)
}

/// Most strips of columns for which columns of a left operand are read where they are: a panel uses a
/// part of each of their cache lines.
const DIRECT_STRIPS: usize = 6;

/// Values of a left operand that come from memory whenever they are read.
const LARGE_LEFT: usize = 1 << 20;

impl<T: Gemm> Product<'_, T> {
    /// A hint at `rows` rows from `top` and `depth` depths from `first` of a left operand that comes
    /// from memory, where rows or columns of it are adjacent.
    pub(super) fn left_ahead(
        &self,
        top: usize,
        rows: usize,
        first: usize,
        depth: usize,
    ) -> Option<Ahead<T>> {
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
            // What is fetched early would be gone when it is read.
            (1, stride) if is_aliased::<T>(stride) => None,
            (1, stride) => runs_of(rows, depth, stride),
            _ => None,
        }
    }

    /// Panels of the left operand that are packed together. Where rows are adjacent, cache lines are then
    /// read whole; more of them if no line would be there a second time.
    fn panels_at_once(&self) -> usize {
        match (self.a.row_stride(), self.a.col_stride()) {
            (1, stride) if is_aliased::<T>(stride) => 16,
            (1, _) => 4,
            _ => 1,
        }
    }

    /// Distance of two depths of a packed left operand.
    pub(super) fn left_width(&self) -> usize {
        (self.panels_at_once() * self.kernels.max_rows()).next_multiple_of(self.kernels.lanes)
    }

    /// A panel of the left operand, packed into `buffer` if it needs to be: with its neighbours, when the
    /// first of them is asked for.
    ///
    /// # Safety
    ///
    /// As for [`Product::part`]; the panels are inside `a`; `buffer` is as the panel before left it.
    pub(super) unsafe fn left(
        &self,
        panels: Panels,
        panel: usize,
        first: usize,
        depth: usize,
        n_strips: usize,
        buffer: &mut [T],
    ) -> (*const T, usize, LeftBy) {
        let a = self.a;
        // SAFETY: the first element of the panel is inside `a`.
        let from =
            |row: usize| unsafe { a.as_ptr().add(row * a.row_stride() + first * a.col_stride()) };
        let top = panels.top(panel);
        let direct = |stride: usize, lines: usize| !is_aliased::<T>(stride) || lines <= WAYS;
        if a.row_stride() == 1 && n_strips <= DIRECT_STRIPS && direct(a.col_stride(), depth) {
            return (from(top), a.col_stride(), LeftBy::Column);
        }
        if a.col_stride() == 1 && direct(a.row_stride(), panels.top(panel + 1) - top) {
            return (from(top), a.row_stride(), LeftBy::Row);
        }
        let at_once = self.panels_at_once();
        let start = panel - panel % at_once;
        let (above, below) = (panels.top(start), panels.top((start + at_once).min(panels.count)));
        let width = self.left_width();
        if panel == start {
            let strip = Strip {
                from: from(above),
                depth_stride: a.col_stride(),
                lane_stride: a.row_stride(),
                depth,
                lanes: below - above,
                width,
            };
            let to = &mut buffer[..depth * width];
            // SAFETY: the strip is inside `a`, its packed form has the length of `to`.
            unsafe { (self.kernels.pack)(&strip, to.as_mut_ptr()) };
        }
        (buffer[top - above..].as_ptr(), width, LeftBy::Column)
    }
}

/// How rows are cut into panels, one per tile.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    pub(super) first: usize,
    rows: usize,
    pub(super) count: usize,
}

impl Panels {
    pub(super) fn of(rows: &Range<usize>, most: usize) -> Self {
        Self { first: rows.start, rows: rows.len(), count: rows.len().div_ceil(most) }
    }

    /// The first row of a panel; of the one after the last, the end.
    pub(super) fn top(&self, panel: usize) -> usize {
        self.first + self.rows * panel / self.count
    }
}
