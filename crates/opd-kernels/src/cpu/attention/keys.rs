use std::ops::Range;

use super::Strided;
use crate::{
    cpu::{
        gemm::{Accumulate, Blocks, Gemm, Matrix, MatrixMut, RightBlock},
        shared::SharedMut,
    },
    spans::Span,
};

/// One head's keys (or values) of a span, where they lie.
#[derive(Clone, Copy)]
pub(super) struct KeyHead<'a, T> {
    pub(super) source: Strided<'a, T>,
    pub(super) head: usize,
    pub(super) dim: usize,
}

/// One head's keys (or values) of a span, as right operands: the prefix's and the span's own.
pub(super) struct KeyBlocks<'b, T: 'static> {
    blocks: Blocks<T>,
    parts: [(Range<usize>, RightBlock<'b, T>); 2],
}

impl<'a, T: Gemm> KeyHead<'a, T> {
    /// Values of buffer that the right operands of a span take.
    #[inline(always)]
    pub(super) fn buffer_len(&self, blocks: Blocks<T>, span: &Span) -> usize {
        let len = |n| blocks.packed_len(self.dim, n).max(blocks.packed_len(n, self.dim));
        len(span.prefix.len()) + len(span.keys.len())
    }

    /// `[n, dim]` operands: weights of keys times these are weighted sums.
    #[inline(always)]
    pub(super) fn rows<'b>(
        &self,
        blocks: Blocks<T>,
        span: &Span,
        buffer: &'b mut [T],
    ) -> KeyBlocks<'b, T>
    where
        'a: 'b,
    {
        self.operands(blocks, span, buffer, |rows| rows)
    }

    /// `[dim, n]` operands: vectors times these are one product for each key.
    #[inline(always)]
    pub(super) fn columns<'b>(
        &self,
        blocks: Blocks<T>,
        span: &Span,
        buffer: &'b mut [T],
    ) -> KeyBlocks<'b, T>
    where
        'a: 'b,
    {
        self.operands(blocks, span, buffer, Matrix::t)
    }

    #[inline(always)]
    fn operands<'b>(
        &self,
        blocks: Blocks<T>,
        span: &Span,
        buffer: &'b mut [T],
        turn: impl Fn(Matrix<'a, T>) -> Matrix<'a, T>,
    ) -> KeyBlocks<'b, T>
    where
        'a: 'b,
    {
        let Self { source: Strided { values, row_stride }, head, dim } = *self;
        let matrix = |rows: &Range<usize>| {
            let start = if rows.is_empty() { 0 } else { rows.start * row_stride + head * dim };
            let values = &values[start..];
            turn(Matrix::new(values, rows.len(), dim, row_stride, 1))
        };
        let (prefix, own) = (matrix(&span.prefix), matrix(&span.keys));
        let (first, rest) = buffer.split_at_mut(blocks.packed_len(prefix.rows(), prefix.cols()));
        let n_prefix = span.prefix.len();
        let parts = [
            (0..n_prefix, blocks.right(prefix, first)),
            (n_prefix..span.n_keys(), blocks.right(own, rest)),
        ];
        KeyBlocks { blocks, parts }
    }

    /// `gradient[j] += sum_r weights[r][j] rows[r]` for the first `n_keys` keys of a span, in a
    /// tensor of the source's shape; rows of `weights` are `width` apart.
    ///
    /// # Safety
    ///
    /// Nothing else may touch the keys' values at this head meanwhile.
    #[inline(always)]
    pub(super) unsafe fn add_gradient(
        &self,
        blocks: Blocks<T>,
        gradient: &SharedMut<'_, T>,
        span: &Span,
        n_keys: usize,
        (weights, width): (&[T], usize),
        rows: &RightBlock<'_, T>,
    ) {
        let Self { source: Strided { row_stride, .. }, head, dim } = *self;
        let n_prefix = span.prefix.len();
        let parts = [(span.prefix.start, 0..n_prefix), (span.keys.start, n_prefix..n_keys)];
        for (first, keys) in parts {
            let n = keys.len();
            if n == 0 {
                continue;
            }
            let left = Matrix::new(&weights[keys.start..], rows.depth(), n, width, 1).t();
            // SAFETY: the caller's promise.
            let to =
                unsafe { gradient.matrix(first * row_stride + head * dim, n, dim, row_stride) };
            blocks.multiply(to, left, rows, Accumulate::Add);
        }
    }
}

impl<T: Gemm> KeyBlocks<'_, T> {
    /// `out[r][j] = rows[r] . key[j]` for the first `n_keys` keys; rows of `out` are `width` apart.
    #[inline(always)]
    pub(super) fn products(
        &self,
        rows: Matrix<'_, T>,
        n_keys: usize,
        (out, width): (&mut [T], usize),
    ) {
        for (keys, right) in &self.parts {
            let n = keys.end.min(n_keys) - keys.start;
            let to = MatrixMut::new(&mut out[keys.start..], rows.rows(), n, width);
            self.blocks.multiply(to, rows, right, Accumulate::Set);
        }
    }

    /// `out[r] += sum_j weights[r][j] key[j]`, one chain over the first `n_keys` keys; rows of
    /// `weights` are `width` apart.
    #[inline(always)]
    pub(super) fn add_weighted(
        &self,
        mut out: MatrixMut<'_, T>,
        (weights, width): (&[T], usize),
        n_keys: usize,
    ) {
        for (keys, right) in &self.parts {
            let n = keys.end.min(n_keys) - keys.start;
            let left = Matrix::new(&weights[keys.start..], out.rows(), n, width, 1);
            self.blocks.multiply(out.reborrow(), left, right, Accumulate::Continue);
        }
    }
}
