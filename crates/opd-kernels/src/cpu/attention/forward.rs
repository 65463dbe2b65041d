use rayon::prelude::*;

use super::{
    Strided,
    keys::KeyHead,
    rows::{BLOCK, LANES, ScoreRows},
};
use crate::{
    cpu::{
        Element, dispatch,
        gemm::{Blocks, Gemm, with_buffer},
        shared::SharedMut,
        vector,
    },
    rotary::Heads,
    spans::Spans,
};

/// [`super::forward()`] of values that are computed in their own dtype.
pub(super) fn wide<T: Gemm>(
    (q, k, v): (Strided<'_, T>, Strided<'_, T>, Strided<'_, T>),
    spans: &Spans,
    heads: Heads,
    scale: T,
    (out, lse): (&mut [T], &mut [T]),
) {
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let blocks = Blocks::new();
    let dim = heads.head_dim;
    let n_tasks = spans.spans().len() * heads.kv_heads;
    let at_once = super::tasks_at_once(spans, heads);
    (0..n_tasks).into_par_iter().with_min_len(at_once).for_each(|task| {
        let span = &spans.spans()[task / heads.kv_heads];
        let kv_head = task % heads.kv_heads;
        let keys = KeyHead { source: k, head: kv_head, dim };
        let values = KeyHead { source: v, ..keys };
        let width = span.n_keys().next_multiple_of(LANES);
        let len = keys.buffer_len(blocks, span);
        with_buffer(2 * len + ScoreRows::most(span, heads) * width, |buffer| {
            let (keys_at, buffer) = buffer.split_at_mut(len);
            let (values_at, scores) = buffer.split_at_mut(len);
            let keys = keys.columns(blocks, span, keys_at);
            let values = values.rows(blocks, span, values_at);
            for rows in ScoreRows::of(span, heads, kv_head) {
                let n_keys = rows.n_keys();
                keys.products(rows.matrix(q, dim), n_keys, (scores, width));
                let mut sums = [T::ZERO; BLOCK];
                dispatch(
                    #[inline(always)]
                    || numerators(&rows, scores, width, scale, &mut sums, &lse, heads),
                );
                // SAFETY: query rows belong to one span alone (`Spans::new`) and heads to this
                // task's key head alone, so no other task touches these values.
                let target = unsafe { rows.matrix_mut(&out, heads.heads * dim, dim) };
                values.add_weighted(target, (scores, width), n_keys);
                dispatch(
                    #[inline(always)]
                    || divide(&rows, &sums, &out, heads),
                );
            }
        });
    });
}

/// Replaces each row's visible products by `exp(scale * product - max)` and the rest of its
/// `n_keys` by 0; writes the rows' sums and log-sum-exps.
#[inline(always)]
fn numerators<T: Element>(
    rows: &ScoreRows,
    scores: &mut [T],
    width: usize,
    scale: T,
    sums: &mut [T],
    lse: &SharedMut<'_, T>,
    heads: Heads,
) {
    let whole = rows.n_keys().next_multiple_of(LANES);
    for r in 0..rows.len() {
        let scores = &mut scores[r * width..][..whole];
        let (visible, hidden) = scores.split_at_mut(rows.visible(r));
        for score in visible {
            *score *= scale;
        }
        hidden.fill(T::NEG_INFINITY);
        let max = vector::max(scores);
        for score in scores.iter_mut() {
            *score = (*score - max).exp();
        }
        sums[r] = vector::sum_by(
            scores.len(),
            #[inline(always)]
            |i| scores[i],
        );
        let at = rows.at(r, heads.heads);
        // SAFETY: as for `wide`: this row's head is this task's alone.
        unsafe { lse.slice(at..at + 1)[0] = max + sums[r].ln() };
    }
}

/// Divides each output row by its sum.
#[inline(always)]
fn divide<T: Element>(rows: &ScoreRows, sums: &[T], out: &SharedMut<'_, T>, heads: Heads) {
    let dim = heads.head_dim;
    for (r, sum) in sums.iter().enumerate().take(rows.len()) {
        let at = rows.at(r, heads.heads);
        let inverse = T::ONE / *sum;
        // SAFETY: as for `wide`: this row's head is this task's alone.
        for value in unsafe { out.slice(at * dim..(at + 1) * dim) } {
            *value *= inverse;
        }
    }
}
