//! Logits of a chunk of rows from hidden states and head, and the way back.

use std::ops::Range;

use super::gemm::{Gemm, Matrix, MatrixMut, Update, gemm};

/// Logits that exist at one time, at most, beyond [`LEAST_ROWS`] rows.
const LOGITS_AT_ONCE: usize = 5 << 20;

/// Fewer rows than this would reread the head too often.
const LEAST_ROWS: usize = 64;

/// Rows beyond which a chunk gains nothing.
const MOST_ROWS: usize = 4096;

/// Rows of the products' tiles.
const TILE_ROWS: usize = 12;

/// `hidden` `[T, H]` times the transpose of `head` `[V, H]`.
#[derive(Clone, Copy)]
pub(crate) struct Projected<'a, T> {
    pub(crate) hidden: &'a [T],
    pub(crate) head: &'a [T],
    pub(crate) width: usize,
    pub(crate) vocab: usize,
}

/// Rows whose logits a fused head on the CPU holds at once, for a vocabulary of `vocab`.
pub fn head_chunk_rows(vocab: usize) -> usize {
    let tiles = LOGITS_AT_ONCE / vocab.max(1) / TILE_ROWS;
    (tiles * TILE_ROWS).clamp(LEAST_ROWS, MOST_ROWS)
}

/// The chunks of `rows` rows over a vocabulary of `vocab`; their size depends on `vocab` alone.
pub(crate) fn chunks(rows: usize, vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let size = head_chunk_rows(vocab);
    (0..rows).step_by(size).map(move |first| first..(first + size).min(rows))
}

impl<T: Gemm> Projected<'_, T> {
    /// Logits of `rows`, in `buffer`; any values there are overwritten.
    pub(crate) fn logits<'b>(&self, buffer: &'b mut Vec<T>, rows: Range<usize>) -> &'b mut [T] {
        buffer.resize(rows.len() * self.vocab, T::ZERO);
        gemm(
            MatrixMut::row_major(buffer, rows.len(), self.vocab),
            self.hidden_rows(rows.clone()),
            Matrix::row_major(self.head, self.vocab, self.width).t(),
            Update::Set,
        );
        buffer
    }

    /// Gradient of `rows` of the hidden states, into `out` `[rows, H]`.
    pub(crate) fn hidden_gradient(&self, out: &mut [T], dlogits: &[T]) {
        let rows = out.len() / self.width.max(1);
        gemm(
            MatrixMut::row_major(out, rows, self.width),
            Matrix::row_major(dlogits, rows, self.vocab),
            Matrix::row_major(self.head, self.vocab, self.width),
            Update::Set,
        );
    }

    /// Adds the gradient of the head that `rows` give to `out` `[V, H]`.
    pub(crate) fn add_head_gradient(&self, out: &mut [T], dlogits: &[T], rows: Range<usize>) {
        gemm(
            MatrixMut::row_major(out, self.vocab, self.width),
            Matrix::row_major(dlogits, rows.len(), self.vocab).t(),
            self.hidden_rows(rows),
            Update::Add,
        );
    }

    fn hidden_rows(&self, rows: Range<usize>) -> Matrix<'_, T> {
        let n = rows.len();
        let values = &self.hidden[rows.start * self.width..rows.end * self.width];
        Matrix::row_major(values, n, self.width)
    }
}
