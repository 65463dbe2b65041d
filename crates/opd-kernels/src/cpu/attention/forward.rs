use rayon::prelude::*;

use super::{
    Strided,
    panel::{LANES, Panel, weighted_sum},
};
use crate::{
    cpu::{Element, dispatch, shared::SharedMut, vector},
    rotary::Heads,
    spans::{Span, Spans},
};

/// Fewest tasks handed to a thread at once.
const TASKS: usize = 8;

/// Writes `out` `[Tq, heads, dim]` and `lse` `[Tq, heads]`.
pub(crate) fn forward<T: Element>(
    (q, k, v): (Strided<'_, T>, Strided<'_, T>, Strided<'_, T>),
    spans: &Spans,
    heads: Heads,
    scale: T,
    (out, lse): (&mut [T], &mut [T]),
) {
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let n_tasks = spans.spans().len() * heads.kv_heads;
    (0..n_tasks).into_par_iter().with_min_len(TASKS).for_each(|task| {
        let span = &spans.spans()[task / heads.kv_heads];
        dispatch(
            #[inline(always)]
            || one(q, k, v, span, task % heads.kv_heads, heads, scale, &out, &lse),
        );
    });
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn one<T: Element>(
    q: Strided<'_, T>,
    k: Strided<'_, T>,
    v: Strided<'_, T>,
    span: &Span,
    kv_head: usize,
    heads: Heads,
    scale: T,
    out: &SharedMut<'_, T>,
    lse: &SharedMut<'_, T>,
) {
    let (dim, group) = (heads.head_dim, heads.heads / heads.kv_heads);
    let keys = Panel::new(k, kv_head, dim, span);
    let mut scores = vec![T::ZERO; keys.width()];
    for (i, row) in span.queries.clone().enumerate() {
        let visible = span.visible(i);
        let scores = &mut scores[..visible.next_multiple_of(LANES)];
        for head in kv_head * group..(kv_head + 1) * group {
            keys.products(q.head(row, head, dim), scale, scores);
            let at = row * heads.heads + head;
            // SAFETY: `row` belongs to this span alone (`Spans::new`) and `head` to this
            // task's key head alone, so no other task touches these values.
            let (out, lse) =
                unsafe { (out.slice(at * dim..(at + 1) * dim), lse.slice(at..at + 1)) };
            let (sum, max) = softmax_numerators(scores, visible);
            lse[0] = max + sum.ln();
            weighted_sum(out, &scores[..visible], v, kv_head, span);
            let inverse = T::ONE / sum;
            for value in out {
                *value *= inverse;
            }
        }
    }
}

/// Replaces the first `visible` scores by `exp(score - max)` and the rest by 0; returns their
/// sum and the maximum.
#[inline(always)]
fn softmax_numerators<T: Element>(scores: &mut [T], visible: usize) -> (T, T) {
    for score in &mut scores[visible..] {
        *score = T::NEG_INFINITY;
    }
    let max = vector::max(scores);
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
    }
    (
        vector::sum_by(
            scores.len(),
            #[inline(always)]
            |i| scores[i],
        ),
        max,
    )
}
