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

/// Writes the gradient of the fused rows `[T, heads + 2 kv_heads, dim]`; `dqkv` starts at zero.
pub(crate) fn backward<T: Element>(
    qkv: &[T],
    spans: &Spans,
    heads: Heads,
    scale: T,
    (out, lse, dout): (&[T], &[T], &[T]),
    dqkv: &mut [T],
) {
    let dqkv = SharedMut::new(dqkv);
    let families: Vec<&[Span]> = spans.families().collect();
    (0..families.len() * heads.kv_heads).into_par_iter().for_each(|task| {
        let kv_head = task % heads.kv_heads;
        let context = Context { qkv, heads, kv_head, scale, out, lse, dout };
        for span in families[task / heads.kv_heads] {
            dispatch(
                #[inline(always)]
                || context.span(span, &dqkv),
            );
        }
    });
}

struct Context<'a, T> {
    qkv: &'a [T],
    heads: Heads,
    kv_head: usize,
    scale: T,
    out: &'a [T],
    lse: &'a [T],
    dout: &'a [T],
}

impl<T: Element> Context<'_, T> {
    /// Adds the gradient of one span's rows and of its prefix's keys and values.
    #[inline(always)]
    fn span(&self, span: &Span, dqkv: &SharedMut<'_, T>) {
        let Heads { heads, kv_heads, head_dim: dim } = self.heads;
        let row_stride = self.heads.total() * dim;
        let part = |head: usize| Strided { values: &self.qkv[head * dim..], row_stride };
        let (q, k, v) = (part(0), part(heads), part(heads + kv_heads));
        let keys = Panel::new(k, self.kv_head, dim, span);
        let values = Panel::new(v, self.kv_head, dim, span);
        let mut p = vec![T::ZERO; keys.width()];
        let mut ds = vec![T::ZERO; keys.width()];
        let mut dk = vec![T::ZERO; span.n_keys() * dim];
        let mut dv = vec![T::ZERO; span.n_keys() * dim];
        let group = heads / kv_heads;
        for (i, row) in span.queries.clone().enumerate() {
            let visible = span.visible(i);
            let whole = visible.next_multiple_of(LANES);
            let (p, ds) = (&mut p[..whole], &mut ds[..whole]);
            for head in self.kv_head * group..(self.kv_head + 1) * group {
                let at = row * heads + head;
                let query = q.head(row, head, dim);
                let dout = &self.dout[at * dim..][..dim];
                let delta = vector::dot(dout, &self.out[at * dim..][..dim]);
                keys.products(query, self.scale, p);
                values.products(dout, T::ONE, ds);
                for (p, ds) in p.iter_mut().zip(ds.iter_mut()) {
                    *p = (*p - self.lse[at]).exp();
                    *ds = *p * (*ds - delta) * self.scale;
                }
                for j in 0..visible {
                    vector::axpy(&mut dk[j * dim..][..dim], ds[j], query);
                    vector::axpy(&mut dv[j * dim..][..dim], p[j], dout);
                }
                let from = row * row_stride + head * dim;
                // SAFETY: query rows belong to one span and `head` to this task's key head.
                let dq = unsafe { dqkv.slice(from..from + dim) };
                weighted_sum(dq, &ds[..visible], k, self.kv_head, span);
            }
        }
        for j in 0..span.n_keys() {
            let from = span.key_row(j) * row_stride + (heads + self.kv_head) * dim;
            let gap = kv_heads * dim;
            // SAFETY: spans that share a key row are of one family, whose spans this task
            // takes one after the other; the key head is this task's alone.
            let (dk_row, dv_row) =
                unsafe { (dqkv.slice(from..from + dim), dqkv.slice(from + gap..from + gap + dim)) };
            vector::axpy(dk_row, T::ONE, &dk[j * dim..][..dim]);
            vector::axpy(dv_row, T::ONE, &dv[j * dim..][..dim]);
        }
    }
}
