use crate::{
    cpu::{
        gemm::{Matrix, MatrixMut},
        shared::SharedMut,
    },
    rotary::Heads,
    spans::Span,
};

use super::Strided;

/// Query rows whose scores are held at once.
pub(super) const BLOCK: usize = 48;

/// Values side by side in one step of the loops over scores.
pub(super) const LANES: usize = 16;

/// Rows of scores that see the same keys but for their last ones: a block of a span's queries at
/// one head, or a span's only query at all heads that share a key head.
#[derive(Clone, Copy)]
pub(super) struct ScoreRows {
    /// First query row and head of the `[rows, heads, dim]` tensors.
    row: usize,
    head: usize,
    len: usize,
    one_query: bool,
    /// Keys that the first row sees.
    first_visible: usize,
}

impl ScoreRows {
    /// All of a span's, for the query heads of one key head.
    #[inline(always)]
    pub(super) fn of(span: &Span, heads: Heads, kv_head: usize) -> impl Iterator<Item = Self> {
        let group = heads.heads / heads.kv_heads;
        let (first_row, n_queries) = (span.queries.start, span.queries.len());
        let one_query = n_queries == 1 && group <= BLOCK;
        let heads_apart = if one_query { 1 } else { group };
        let visible = span.visible(0);
        (0..n_queries).step_by(BLOCK).flat_map(move |i| {
            (0..heads_apart).map(move |head| Self {
                row: first_row + i,
                head: kv_head * group + head,
                len: if one_query { group } else { BLOCK.min(n_queries - i) },
                one_query,
                first_visible: visible + i,
            })
        })
    }

    /// Most rows that [`ScoreRows::of`] gives at once.
    pub(super) fn most(span: &Span, heads: Heads) -> usize {
        let group = heads.heads / heads.kv_heads;
        match span.queries.len() {
            1 if group <= BLOCK => group,
            n => BLOCK.min(n),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keys that row `r` sees.
    #[inline(always)]
    pub(super) fn visible(&self, r: usize) -> usize {
        self.first_visible + if self.one_query { 0 } else { r }
    }

    /// Keys that the last row sees.
    #[inline(always)]
    pub(super) fn n_keys(&self) -> usize {
        self.visible(self.len - 1)
    }

    /// Index of row `r` among all rows and heads.
    #[inline(always)]
    pub(super) fn at(&self, r: usize, heads: usize) -> usize {
        let (row, head) = if self.one_query { (0, r) } else { (r, 0) };
        (self.row + row) * heads + self.head + head
    }

    /// The rows' vectors, `[len, dim]`.
    #[inline(always)]
    pub(super) fn matrix<'a, T>(&self, source: Strided<'a, T>, dim: usize) -> Matrix<'a, T> {
        let start = self.row * source.row_stride + self.head * dim;
        let stride = if self.one_query { dim } else { source.row_stride };
        Matrix::new(&source.values[start..], self.len, dim, stride, 1)
    }

    /// The rows' outputs, `[len, dim]`, in a tensor whose rows are `row_stride` apart.
    ///
    /// # Safety
    ///
    /// While the result lives, nothing else may touch the rows' values at their heads.
    #[inline(always)]
    pub(super) unsafe fn matrix_mut<'a, T>(
        &self,
        target: &'a SharedMut<'_, T>,
        row_stride: usize,
        dim: usize,
    ) -> MatrixMut<'a, T> {
        let start = self.row * row_stride + self.head * dim;
        let stride = if self.one_query { dim } else { row_stride };
        // SAFETY: the caller's promise.
        unsafe { target.matrix(start, self.len, dim, stride) }
    }
}
