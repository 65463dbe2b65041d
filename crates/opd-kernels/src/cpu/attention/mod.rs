//! Causal attention over packed spans, one task per span (or family) and key head.
//!
//! A task takes blocks of query rows: scores, softmax and weighted values are small matrix
//! products whose every element is one chain in order of the keys, so a row's result does not
//! depend on the rows beside it.

mod backward;
mod forward;
mod keys;
mod narrow;
mod rows;

use crate::{cpu::Stored, rotary::Heads, spans::Spans};

/// Writes `out` `[Tq, heads, dim]`, which starts at zero, and `lse` `[Tq, heads]`.
pub(crate) fn forward<S: Stored>(
    inputs: (Strided<'_, S>, Strided<'_, S>, Strided<'_, S>),
    spans: &Spans,
    heads: Heads,
    scale: S::Wide,
    (out, lse): (&mut [S], &mut [S::Wide]),
) {
    let (q, k, v) = inputs;
    if let (Some(q), Some(k), Some(v)) = (q.wide(), k.wide(), v.wide())
        && let Some(out) = S::wide_mut(out)
    {
        return forward::wide((q, k, v), spans, heads, scale, (out, lse));
    }
    narrow::forward(inputs, spans, heads, scale, (out, lse));
}

/// Writes the gradient of the fused rows `[T, heads + 2 kv_heads, dim]`; `dqkv` starts at zero.
pub(crate) fn backward<S: Stored>(
    qkv: &[S],
    spans: &Spans,
    heads: Heads,
    scale: S::Wide,
    (lse, dout): (&[S::Wide], &[S]),
    dqkv: &mut [S],
) {
    if let (Some(qkv), Some(dout)) = (S::wide(qkv), S::wide(dout))
        && let Some(dqkv) = S::wide_mut(dqkv)
    {
        return backward::wide(qkv, spans, heads, scale, (lse, dout), dqkv);
    }
    narrow::backward(qkv, spans, heads, scale, (lse, dout), dqkv);
}

/// Multiply-adds that are worth another thread: some 30 microseconds.
const THREAD_WORK: usize = 1_000_000;

/// Fewest tasks of a forward, of one span and key head each, that a thread takes at once.
fn tasks_at_once(spans: &Spans, heads: Heads) -> usize {
    let pairs: usize = spans.spans().iter().map(|span| span.queries.len() * span.n_keys()).sum();
    let work = pairs.saturating_mul(2 * heads.heads * heads.head_dim);
    let tasks = spans.spans().len() * heads.kv_heads;
    (tasks * THREAD_WORK / work.max(1)).clamp(1, 8)
}

/// A `[rows, heads, dim]` view with contiguous heads.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) row_stride: usize,
}

impl<'a, S: Stored> Strided<'a, S> {
    /// The same rows, where they are computed in their own dtype.
    fn wide(self) -> Option<Strided<'a, S::Wide>> {
        let row_stride = self.row_stride;
        S::wide(self.values).map(|values| Strided { values, row_stride })
    }
}
