use rayon::prelude::*;

use super::{
    Strided,
    keys::KeyHead,
    rows::{LANES, ScoreRows},
};
use crate::{
    cpu::{
        dispatch,
        gemm::{Blocks, Gemm, with_buffer},
        shared::SharedMut,
        vector,
    },
    rotary::Heads,
    spans::{Span, Spans},
};

/// [`super::backward()`] of values that are computed in their own dtype.
pub(super) fn wide<T: Gemm>(
    qkv: &[T],
    spans: &Spans,
    heads: Heads,
    scale: T,
    (lse, dout): (&[T], &[T]),
    dqkv: &mut [T],
) {
    let dqkv = SharedMut::new(dqkv);
    let families: Vec<&[Span]> = spans.families().collect();
    let blocks = Blocks::new();
    (0..families.len() * heads.kv_heads).into_par_iter().for_each(|task| {
        let kv_head = task % heads.kv_heads;
        let context = Context { blocks, qkv, heads, kv_head, scale, lse, dout };
        for span in families[task / heads.kv_heads] {
            // SAFETY: query rows belong to one span and query heads to one key head; spans that
            // share a key row are of one family, whose spans this task takes one after the other.
            unsafe { context.span(span, &dqkv) };
        }
    });
}

struct Context<'a, T: 'static> {
    blocks: Blocks<T>,
    qkv: &'a [T],
    heads: Heads,
    kv_head: usize,
    scale: T,
    lse: &'a [T],
    dout: &'a [T],
}

impl<T: Gemm> Context<'_, T> {
    /// Adds the gradient of a span's rows of scores.
    ///
    /// # Safety
    ///
    /// Nothing else may touch the gradients of the span's queries, keys and values at this key
    /// head meanwhile.
    unsafe fn span(&self, span: &Span, dqkv: &SharedMut<'_, T>) {
        let Heads { heads, kv_heads, head_dim: dim } = self.heads;
        let row_stride = self.heads.total() * dim;
        let qkv = Strided { values: self.qkv, row_stride };
        let douts = Strided { values: self.dout, row_stride: heads * dim };
        let keys = KeyHead { source: qkv, head: heads + self.kv_head, dim };
        let values = KeyHead { head: keys.head + kv_heads, ..keys };
        let width = span.n_keys().next_multiple_of(LANES);
        let (len, scores_len) =
            (keys.buffer_len(self.blocks, span), ScoreRows::most(span, self.heads) * width);
        let right_len = self.blocks.packed_len(ScoreRows::most(span, self.heads), dim);
        with_buffer(3 * len + 2 * scores_len + right_len, |buffer| {
            let (columns_at, buffer) = buffer.split_at_mut(len);
            let (rows_at, buffer) = buffer.split_at_mut(len);
            let (values_at, buffer) = buffer.split_at_mut(len);
            let (p, buffer) = buffer.split_at_mut(scores_len);
            let (ds, right) = buffer.split_at_mut(scores_len);
            let key_columns = keys.columns(self.blocks, span, columns_at);
            let key_rows = keys.rows(self.blocks, span, rows_at);
            let value_columns = values.columns(self.blocks, span, values_at);
            for rows in ScoreRows::of(span, self.heads, self.kv_head) {
                let n_keys = rows.n_keys();
                let (query, dout) = (rows.matrix(qkv, dim), rows.matrix(douts, dim));
                key_columns.products(query, n_keys, (p, width));
                value_columns.products(dout, n_keys, (ds, width));
                dispatch(
                    #[inline(always)]
                    || self.scores(&rows, width, p, ds),
                );
                // SAFETY: the caller's promise.
                unsafe {
                    let dquery = rows.matrix_mut(dqkv, row_stride, dim);
                    key_rows.add_weighted(dquery, (ds, width), n_keys);
                    let query = self.blocks.right(query, right);
                    keys.add_gradient(self.blocks, dqkv, span, n_keys, (ds, width), &query);
                    let dout = self.blocks.right(dout, right);
                    values.add_gradient(self.blocks, dqkv, span, n_keys, (p, width), &dout);
                }
            }
        });
    }

    /// From `q . k` in `p` and `dout . v` in `ds` to probabilities and gradients of `q . k`; 0 for
    /// keys that a row does not see.
    #[inline(always)]
    fn scores(&self, rows: &ScoreRows, width: usize, p: &mut [T], ds: &mut [T]) {
        for r in 0..rows.len() {
            let at = rows.at(r, self.heads.heads);
            let (visible, n_keys) = (rows.visible(r), rows.n_keys());
            let (p, ds) = (&mut p[r * width..][..n_keys], &mut ds[r * width..][..n_keys]);
            p[visible..].fill(T::ZERO);
            ds[visible..].fill(T::ZERO);
            let (p, ds) = (&mut p[..visible], &mut ds[..visible]);
            for p in p.iter_mut() {
                *p = (*p * self.scale - self.lse[at]).exp();
            }
            // `dout . out`, from what the sum of `ds` must cancel rather than from an `out` that was
            // rounded.
            let delta = vector::dot(p, ds);
            for (p, ds) in p.iter().zip(ds) {
                *ds = *p * (*ds - delta) * self.scale;
            }
        }
    }
}
