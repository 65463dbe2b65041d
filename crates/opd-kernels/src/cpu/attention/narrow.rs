//! Attention over values that are stored narrower than they are computed in.
//!
//! A task copies the rows that it needs at one key head, widened, into a problem of its own: one key
//! head, and rows that nobody else reads. Results have the bits of the wide kernels, rounded once.

use std::ops::Range;

use rayon::prelude::*;

use super::Strided;
use crate::{
    cpu::{Stored, gemm::with_buffer, shared::SharedMut},
    rotary::Heads,
    spans::{Span, Spans},
};

/// As [`super::forward()`], for dtypes that are not computed in.
pub(super) fn forward<S: Stored>(
    (q, k, v): (Strided<'_, S>, Strided<'_, S>, Strided<'_, S>),
    spans: &Spans,
    heads: Heads,
    scale: S::Wide,
    (out, lse): (&mut [S], &mut [S::Wide]),
) {
    let (out, lse) = (SharedMut::new(out), SharedMut::new(lse));
    let dim = heads.head_dim;
    let group = heads.heads / heads.kv_heads;
    let own = Heads { heads: group, kv_heads: 1, head_dim: dim };
    let n_tasks = spans.spans().len() * heads.kv_heads;
    let at_once = super::tasks_at_once(spans, heads);
    (0..n_tasks).into_par_iter().with_min_len(at_once).for_each(|task| {
        let span = &spans.spans()[task / heads.kv_heads];
        let kv_head = task % heads.kv_heads;
        let (n_queries, n_prefix, n_keys) = (span.queries.len(), span.prefix.len(), span.n_keys());
        let (queries_len, keys_len) = (n_queries * group * dim, n_keys * dim);
        with_buffer(
            2 * queries_len + 2 * keys_len + n_queries * group,
            |buffer: &mut [S::Wide]| {
                let (queries, buffer) = buffer.split_at_mut(queries_len);
                let (keys, buffer) = buffer.split_at_mut(keys_len);
                let (values, buffer) = buffer.split_at_mut(keys_len);
                let (own_out, own_lse) = buffer.split_at_mut(queries_len);
                widen(q, span.queries.clone(), kv_head * group * dim, group * dim, queries);
                let key_rows = || span.prefix.clone().chain(span.keys.clone());
                widen(k, key_rows(), kv_head * dim, dim, keys);
                widen(v, key_rows(), kv_head * dim, dim, values);
                own_out.fill(S::Wide::default());
                let alone =
                    Span { queries: 0..n_queries, prefix: 0..n_prefix, keys: n_prefix..n_keys };
                let rows = |values, row_stride| Strided { values, row_stride };
                super::forward::wide(
                    (rows(&*queries, group * dim), rows(&*keys, dim), rows(&*values, dim)),
                    &Spans::of_one(alone),
                    own,
                    scale,
                    (own_out, own_lse),
                );
                for (i, row) in span.queries.clone().enumerate() {
                    let at = row * heads.heads + kv_head * group;
                    // SAFETY: query rows belong to one span alone (`Spans::new`) and heads to this key
                    // head alone, so no other task touches these values.
                    let (out, lse) = unsafe {
                        (out.slice(at * dim..(at + group) * dim), lse.slice(at..at + group))
                    };
                    S::narrow(&own_out[i * group * dim..][..group * dim], out);
                    lse.copy_from_slice(&own_lse[i * group..][..group]);
                }
            },
        );
    });
}

/// As [`super::backward()`], for dtypes that are not computed in.
pub(super) fn backward<S: Stored>(
    qkv: &[S],
    spans: &Spans,
    heads: Heads,
    scale: S::Wide,
    (lse, dout): (&[S::Wide], &[S]),
    dqkv: &mut [S],
) {
    let dqkv = SharedMut::new(dqkv);
    let families: Vec<&[Span]> = spans.families().collect();
    (0..families.len() * heads.kv_heads).into_par_iter().for_each(|task| {
        let family = Family::new(families[task / heads.kv_heads], heads, task % heads.kv_heads);
        family.backward(qkv, scale, (lse, dout), &dqkv);
    });
}

/// The rows that a family of spans touches, and one key head.
struct Family<'a> {
    spans: &'a [Span],
    /// Runs of rows, and the place of each run's first row among all of them.
    runs: Vec<(Range<usize>, usize)>,
    heads: Heads,
    kv_head: usize,
}

impl<'a> Family<'a> {
    fn new(spans: &'a [Span], heads: Heads, kv_head: usize) -> Self {
        let mut ranges: Vec<Range<usize>> = spans
            .iter()
            .flat_map(|span| [&span.queries, &span.prefix, &span.keys])
            .filter(|range| !range.is_empty())
            .cloned()
            .collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
        for range in ranges {
            match runs.last_mut() {
                Some((run, _)) if range.start <= run.end => run.end = run.end.max(range.end),
                last => {
                    let place = last.map_or(0, |(run, place)| *place + run.len());
                    runs.push((range, place));
                }
            }
        }
        Self { spans, runs, heads, kv_head }
    }

    fn n_rows(&self) -> usize {
        self.runs.last().map_or(0, |(run, place)| place + run.len())
    }

    fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.runs.iter().flat_map(|(run, _)| run.clone())
    }

    /// Where rows of one run lie among the family's.
    fn places(&self, rows: &Range<usize>) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let after = self.runs.partition_point(|(run, _)| run.start <= rows.start);
        let (run, place) = &self.runs[after - 1];
        let start = place + rows.start - run.start;
        start..start + rows.len()
    }

    /// Writes the gradients of the family's queries, keys and values at the key head.
    fn backward<S: Stored>(
        &self,
        qkv: &[S],
        scale: S::Wide,
        (lse, dout): (&[S::Wide], &[S]),
        dqkv: &SharedMut<'_, S>,
    ) {
        let Heads { heads, kv_heads, head_dim: dim } = self.heads;
        let (group, total, n) = (heads / kv_heads, self.heads.total(), self.n_rows());
        let own = Heads { heads: group, kv_heads: 1, head_dim: dim };
        let width = own.total() * dim;
        let alone = self.spans.iter().map(|span| Span {
            queries: self.places(&span.queries),
            prefix: self.places(&span.prefix),
            keys: self.places(&span.keys),
        });
        let alone = Spans::of_family(alone.collect(), n);
        let fused = Strided { values: qkv, row_stride: total * dim };
        let upstream = Strided { values: dout, row_stride: heads * dim };
        // Where queries, key and value of the key head start in a fused row, in heads; how many.
        let parts = [
            (self.kv_head * group, group),
            (heads + self.kv_head, 1),
            (heads + kv_heads + self.kv_head, 1),
        ];
        with_buffer(n * (2 * width + group * dim + group), |buffer: &mut [S::Wide]| {
            let (own_qkv, buffer) = buffer.split_at_mut(n * width);
            let (own_dqkv, buffer) = buffer.split_at_mut(n * width);
            let (own_dout, own_lse) = buffer.split_at_mut(n * group * dim);
            for (i, row) in self.rows().enumerate() {
                let mut to = &mut own_qkv[i * width..][..width];
                for (head, n) in parts {
                    let (part, rest) = to.split_at_mut(n * dim);
                    S::widen(&fused.values[row * fused.row_stride + head * dim..][..n * dim], part);
                    to = rest;
                }
                let at = row * heads + self.kv_head * group;
                own_lse[i * group..][..group].copy_from_slice(&lse[at..at + group]);
            }
            widen(upstream, self.rows(), self.kv_head * group * dim, group * dim, own_dout);
            own_dqkv.fill(S::Wide::default());
            super::backward::wide(own_qkv, &alone, own, scale, (&*own_lse, &*own_dout), own_dqkv);
            let gradient = |rows: &Range<usize>, [start, end]: [usize; 2]| {
                let places = self.places(rows);
                for (row, place) in rows.clone().zip(places) {
                    let mut at = place * width;
                    for (part, (head, n)) in parts.iter().enumerate() {
                        if (start..end).contains(&part) {
                            let to = (row * total + head) * dim;
                            // SAFETY: query rows belong to one span and query heads to one key head;
                            // key rows belong to one family, which this task alone takes at this
                            // key head.
                            let to = unsafe { dqkv.slice(to..to + n * dim) };
                            S::narrow(&own_dqkv[at..at + n * dim], to);
                        }
                        at += n * dim;
                    }
                }
            };
            for span in self.spans {
                gradient(&span.queries, [0, 1]);
                gradient(&span.prefix, [1, 3]);
                gradient(&span.keys, [1, 3]);
            }
        });
    }
}

/// `width` values from column `first` of each row, widened, back to back in `to`.
fn widen<S: Stored>(
    from: Strided<'_, S>,
    rows: impl Iterator<Item = usize>,
    first: usize,
    width: usize,
    to: &mut [S::Wide],
) {
    for (row, to) in rows.zip(to.chunks_exact_mut(width.max(1))) {
        S::widen(&from.values[row * from.row_stride + first..][..width], to);
    }
}

#[cfg(test)]
mod tests {
    use super::Family;
    use crate::{Heads, Span};

    #[test]
    fn rows_of_a_family_are_counted_once() {
        let heads = Heads { heads: 1, kv_heads: 1, head_dim: 1 };
        let span = |queries, prefix, keys| Span { queries, prefix, keys };
        let spans = [
            span(10..12, 0..0, 10..12),
            span(20..21, 10..12, 20..21),
            span(30..31, 11..12, 30..33),
            span(0..0, 5..5, 40..40),
        ];
        let family = Family::new(&spans, heads, 0);
        assert_eq!(family.rows().collect::<Vec<_>>(), [10, 11, 20, 30, 31, 32]);
        assert_eq!(family.n_rows(), 6);
        assert_eq!(family.places(&(11..12)), 1..2);
        assert_eq!(family.places(&(20..21)), 2..3);
        assert_eq!(family.places(&(30..33)), 3..6);
        assert!(family.places(&(5..5)).is_empty());
    }
}
