use std::ops::Range;

use super::kernels::Kernels;

/// Multiply-adds below which a part is not worth a thread: some 10 microseconds.
const SMALL_WORK: usize = 500_000;

/// Multiply-adds above which a thread gets several parts, for idle threads to take over.
const LARGE_WORK: usize = 16_000_000;

/// Multiply-adds that take as long as packing one element of the right operand.
const PACK_WORK: usize = 16;

/// Values of a right operand that come from memory whenever they are packed.
pub(super) const LARGE_RIGHT: usize = 1 << 20;

/// Parts for this many threads of so many multiply-adds, at least 1.
pub(super) fn parts(threads: usize, work: usize) -> usize {
    match threads {
        ..=1 => 1,
        _ => threads.min(work / SMALL_WORK).max((4 * threads).min(work / LARGE_WORK)).max(1),
    }
}

/// How an output is cut into parts, one per unit of parallel work.
pub(super) struct Grid {
    rows: usize,
    cols: usize,
    /// Columns that parts start at multiples of.
    strip: usize,
    down: usize,
    across: usize,
}

impl Grid {
    /// Cuts a `rows x cols` output of `depth` products each for this many threads; `by_row` if rows of the
    /// right operand are adjacent in memory, so that few columns of it are short runs.
    pub(super) fn new<T>(
        kernels: &Kernels<T>,
        threads: usize,
        rows: usize,
        cols: usize,
        depth: usize,
        by_row: bool,
    ) -> Self {
        let strip = kernels.max_cols();
        let work = (rows + PACK_WORK).saturating_mul(cols).saturating_mul(depth);
        let large = cols * depth > LARGE_RIGHT;
        let target = match threads {
            2.. if large && by_row => threads.min(work / SMALL_WORK).max(1),
            _ => parts(threads, work),
        };
        let (n_panels, n_strips) = (rows.div_ceil(kernels.max_rows()), cols.div_ceil(strip));
        let packing = if large { 24 } else { 3 };
        // Tiles of the largest part, in eighths, plus what packing its operands costs.
        let cost = |(down, across): (usize, usize)| {
            let (panels, strips) = (n_panels.div_ceil(down), n_strips.div_ceil(across));
            8 * panels * strips + panels + packing * strips
        };
        let across = 1..=n_strips.min(target);
        let shapes = across.map(|across| (n_panels.min(target.div_ceil(across)), across));
        let (down, across) = shapes.min_by_key(|&shape| cost(shape)).unwrap_or((1, 1));
        Self { rows, cols, strip, down, across }
    }

    /// Number of parts.
    pub(super) fn len(&self) -> usize {
        self.down * self.across
    }

    /// Rows and columns of part `i`.
    pub(super) fn part(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let (row, col) = (i / self.across, i % self.across);
        let row_at = |row: usize| self.rows * row / self.down;
        let n_strips = self.cols.div_ceil(self.strip);
        let col_at = |col: usize| (n_strips * col / self.across * self.strip).min(self.cols);
        (row_at(row)..row_at(row + 1), col_at(col)..col_at(col + 1))
    }
}
