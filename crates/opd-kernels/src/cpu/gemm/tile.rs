use super::lanes::Lanes;

/// The operands of one register tile: `rows x cols` outputs and `depth` products each.
pub(super) struct Tile<T> {
    pub(super) depth: usize,
    /// Element `(i, k)` is at `i + k * a_stride`, or `i * a_stride + k` for [`LeftBy::Row`].
    pub(super) a: *const T,
    pub(super) a_stride: usize,
    /// Element `(k, j)` is at `k * b_stride + j`; whole vectors are read.
    pub(super) b: *const T,
    pub(super) b_stride: usize,
    /// Element `(i, j)` is at `i * c_stride + j`.
    pub(super) c: *mut T,
    pub(super) c_stride: usize,
    /// Columns that are written, at least 1, at most those of the vectors.
    pub(super) cols: usize,
    pub(super) start: Start,
    pub(super) ahead: Ahead<T>,
}

/// Runs of memory that will be read soon: a hint for the caches, given bit by bit while a tile is
/// computed, so that memory is read and products are made at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead<T> {
    /// The first run. May be anywhere: nothing is read.
    pub(super) from: *const T,
    /// Distance of two runs.
    pub(super) stride: usize,
    /// Values of a run.
    pub(super) run: usize,
    /// Depths of the tile, up to some more, at which one row of its right operand's width is hinted at.
    pub(super) depths: usize,
}

impl<T> Ahead<T> {
    /// No hint.
    pub(super) fn none() -> Self {
        Self { from: std::ptr::null(), stride: 0, run: 0, depths: 0 }
    }
}

/// Multiply-adds of one chain, and so of one rounding error's way through a sum. Part of the definition
/// of a result, as [`super::packed::BLOCK`] is, of which it is a part.
pub(super) const CHAIN: usize = 64;

/// Depths between two questions whether the chain is at its end: so many are written out.
const UNROLLED: usize = 4;

/// Where the sums of a tile start, and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At 0; they replace `c`.
    Zero,
    /// At 0; they are added to `c`.
    ZeroThenAdd,
    /// At `c`, which they replace: one chain, which a tile of further depths continues.
    Values,
}

/// Which index of the left operand is adjacent in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftBy {
    /// The row: a packed panel, or a transposed matrix as it is.
    Column,
    /// The depth: a row-major matrix as it is.
    Row,
}

/// Runs `$body` for `$i` in `0..$n` as so many statements: an array that a loop indexes would live in
/// memory rather than in registers. `ROWS` is at most 12 and `VECTORS` at most 2: what is written for more
/// is compiled, at length, and left out.
macro_rules! unroll {
    ($i:ident < ROWS, $body:block) => {
        unroll!(@ $i ROWS $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($i:ident < VECTORS, $body:block) => {
        unroll!(@ $i VECTORS $body, 0 1)
    };
    (@ $i:ident $n:ident $body:block, $($at:literal)*) => {
        $(if $at < $n {
            let $i: usize = $at;
            $body
        })*
    };
}

/// Computes a tile of `ROWS` rows and `VECTORS` vectors of columns.
///
/// Each output is the sum of chains of [`CHAIN`] multiply-adds, in order of the depth, or one chain that
/// [`Start::Values`] continues, whatever the size of the tile; that is what makes an output independent
/// of its neighbours.
///
/// # Safety
///
/// `tile.a` and `tile.b` cover what [`Tile`] says is read, `tile.c` the `ROWS x cols` that are
/// written; nobody else touches those outputs meanwhile; the machine has the instruction set.
#[inline(always)]
pub(super) unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize, const BY_ROW: bool>(
    tile: &Tile<L::Scalar>,
) {
    const { assert!(ROWS <= 12 && VECTORS <= 2 && UNROLLED == 4, "what is written out") };
    let &Tile { depth, a_stride, b_stride, c_stride, cols, start, mut a, mut b, c, ahead } = tile;
    let add = start == Start::ZeroThenAdd;
    // SAFETY: k < depth, i < ROWS and v < VECTORS, so reads are those that the caller vouches
    // for; rows i < ROWS and columns below `cols` of `c` belong to the caller.
    unsafe {
        unroll!(i < ROWS, {
            unroll!(v < VECTORS, {
                L::prefetch(c.wrapping_add(i * c_stride + v * L::COUNT));
            });
        });
        let mut sums = [[L::zero(); VECTORS]; ROWS];
        if start == Start::Values {
            unroll!(v < VECTORS, {
                let n = cols.saturating_sub(v * L::COUNT);
                let c = c.wrapping_add(v * L::COUNT);
                unroll!(i < ROWS, {
                    let at = c.wrapping_add(i * c_stride);
                    if n >= L::COUNT {
                        sums[i][v] = L::load(at);
                    } else if n > 0 {
                        sums[i][v] = L::load_head(at, n);
                    }
                });
            });
        }
        let per_run = ahead.run.div_ceil(VECTORS * L::COUNT);
        let (mut run, mut hint, mut left_of_run) = (ahead.from, ahead.from, per_run);
        let chain = if start == Start::Values { depth } else { CHAIN };
        let mut totals = [[L::zero(); VECTORS]; ROWS];
        macro_rules! one_depth {
            () => {{
                let mut right = [L::zero(); VECTORS];
                unroll!(v < VECTORS, {
                    right[v] = L::load(b.add(v * L::COUNT));
                });
                unroll!(i < ROWS, {
                    let left = L::splat(a.add(if BY_ROW { i * a_stride } else { i }));
                    unroll!(v < VECTORS, {
                        sums[i][v] = L::mul_add(left, right[v], sums[i][v]);
                    });
                });
                a = a.wrapping_add(if BY_ROW { 1 } else { a_stride });
                b = b.wrapping_add(b_stride);
            }};
        }
        let mut first = 0;
        loop {
            let end = depth.min(first + chain);
            let mut k = first;
            while k + UNROLLED <= end {
                if k < ahead.depths {
                    for _ in 0..UNROLLED {
                        unroll!(v < VECTORS, {
                            L::prefetch_ahead(hint.wrapping_add(v * L::COUNT));
                        });
                        hint = hint.wrapping_add(VECTORS * L::COUNT);
                        left_of_run -= 1;
                        if left_of_run == 0 {
                            run = run.wrapping_add(ahead.stride);
                            (hint, left_of_run) = (run, per_run);
                        }
                    }
                }
                one_depth!();
                one_depth!();
                one_depth!();
                one_depth!();
                k += UNROLLED;
            }
            for _ in k..end {
                one_depth!();
            }
            if first > 0 {
                unroll!(i < ROWS, {
                    unroll!(v < VECTORS, {
                        sums[i][v] = L::add(totals[i][v], sums[i][v]);
                    });
                });
            }
            if end == depth {
                break;
            }
            first = end;
            unroll!(i < ROWS, {
                unroll!(v < VECTORS, {
                    totals[i][v] = sums[i][v];
                    sums[i][v] = L::zero();
                });
            });
        }
        unroll!(v < VECTORS, {
            let n = cols.saturating_sub(v * L::COUNT);
            let c = c.add(v * L::COUNT);
            if n >= L::COUNT {
                unroll!(i < ROWS, {
                    let at = c.add(i * c_stride);
                    L::store(at, if add { L::add(L::load(at), sums[i][v]) } else { sums[i][v] });
                });
            } else if n > 0 {
                unroll!(i < ROWS, {
                    let at = c.add(i * c_stride);
                    let sum =
                        if add { L::add(L::load_head(at, n), sums[i][v]) } else { sums[i][v] };
                    L::store_head(at, n, sum);
                });
            }
        });
    }
}
