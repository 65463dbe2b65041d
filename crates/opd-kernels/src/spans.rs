use std::ops::Range;

use crate::{Error, Result};

/// One run of queries and the keys that they see.
///
/// Every query sees all of `prefix`. With `n` queries, query `i` sees `keys` but for the
/// last `n - 1 - i`: causal order, the last query facing the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of the query tensor.
    pub queries: Range<usize>,
    /// Rows of the key and value tensors that all queries see; may be empty.
    pub prefix: Range<usize>,
    /// Rows of the key and value tensors seen causally; at least as many as the queries.
    pub keys: Range<usize>,
}

impl Span {
    /// Number of keys that query `i` sees.
    pub(crate) fn visible(&self, i: usize) -> usize {
        self.prefix.len() + self.keys.len() - self.queries.len() + i + 1
    }

    /// Number of keys that the last query sees.
    pub(crate) fn n_keys(&self) -> usize {
        self.prefix.len() + self.keys.len()
    }
}

/// The attention pattern of a packed ragged batch: no padding, no mask tensor.
///
/// A prompt that several responses share is one span; each response is a span whose prefix
/// is the prompt's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    spans: Vec<Span>,
    families: Vec<Range<usize>>,
    n_queries: usize,
    n_keys: usize,
}

impl Spans {
    /// Checks a pattern over `n_queries` query rows and `n_keys` key rows.
    ///
    /// Prefixes may overlap other spans' keys and one another in any way.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if a span reaches outside the rows or has more queries than keys, or
    /// if two spans share query rows or (causal) key rows.
    pub fn new(spans: Vec<Span>, n_queries: usize, n_keys: usize) -> Result<Self> {
        let bad = |what, expected, got: usize| {
            Err(Error::Setting { op: "attention", what, expected, got: got as f64 })
        };
        for span in &spans {
            if span.queries.end > n_queries || span.queries.start > span.queries.end {
                return bad("end of a span's queries", "within the query rows", span.queries.end);
            }
            for range in [&span.prefix, &span.keys] {
                if range.end > n_keys || range.start > range.end {
                    return bad("end of a span's keys", "within the key rows", range.end);
                }
            }
            if span.keys.len() < span.queries.len() {
                return bad("keys of a span", "at least its queries", span.keys.len());
            }
        }
        for ranges in [
            spans.iter().map(|span| span.queries.clone()).collect::<Vec<_>>(),
            spans.iter().map(|span| span.keys.clone()).collect(),
        ] {
            let mut ranges = ranges;
            ranges.retain(|range| !range.is_empty());
            ranges.sort_by_key(|range| (range.start, range.end));
            if let Some(pair) = ranges.windows(2).find(|pair| pair[0].end > pair[1].start) {
                return bad("first row of a span", "after the span before it", pair[1].start);
            }
        }
        let (spans, families) = families(spans);
        Ok(Self { spans, families, n_queries, n_keys })
    }

    /// Independent causal sequences of these lengths, back to back.
    pub fn causal(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let spans = lengths.into_iter().map(|length| {
            let start = end;
            end += length;
            Span { queries: start..end, prefix: 0..0, keys: start..end }
        });
        let spans: Vec<_> = spans.collect();
        let families = (0..spans.len()).map(|i| i..i + 1).collect();
        Self { spans, families, n_queries: end, n_keys: end }
    }

    /// One span that has all query and key rows to itself.
    pub(crate) fn of_one(span: Span) -> Self {
        let n_keys = span.keys.end;
        Self::of_family(vec![span], n_keys)
    }

    /// Spans that may share keys, over so many rows.
    pub(crate) fn of_family(spans: Vec<Span>, rows: usize) -> Self {
        let families = std::iter::once(0..spans.len()).collect();
        Self { spans, families, n_queries: rows, n_keys: rows }
    }

    /// Number of query rows.
    pub fn n_queries(&self) -> usize {
        self.n_queries
    }

    /// Number of key rows.
    pub fn n_keys(&self) -> usize {
        self.n_keys
    }

    /// The spans; those that share keys are neighbours.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Runs of spans that share no key row with any other run: gradients of different
    /// families can be computed at once.
    pub(crate) fn families(&self) -> impl ExactSizeIterator<Item = &[Span]> {
        self.families.iter().map(|range| &self.spans[range.clone()])
    }
}

/// Sorts spans by family and key row, and cuts them into families: spans that share a key row,
/// or share one with a third that they are in one family with.
fn families(spans: Vec<Span>) -> (Vec<Span>, Vec<Range<usize>>) {
    let mut touched: Vec<(Range<usize>, usize)> = Vec::with_capacity(2 * spans.len());
    for (i, span) in spans.iter().enumerate() {
        let ranges = [&span.prefix, &span.keys].into_iter().filter(|range| !range.is_empty());
        touched.extend(ranges.map(|range| (range.clone(), i)));
    }
    touched.sort_by_key(|(range, i)| (range.start, range.end, *i));
    let mut parents: Vec<usize> = (0..spans.len()).collect();
    let mut open: Option<(usize, usize)> = None;
    for (range, span) in touched {
        open = match open {
            Some((first, end)) if range.start < end => {
                let (a, b) = (root(&mut parents, first), root(&mut parents, span));
                parents[a.max(b)] = a.min(b);
                Some((first, end.max(range.end)))
            }
            _ => Some((span, range.end)),
        };
    }
    let mut first_rows = vec![usize::MAX; spans.len()];
    for (i, span) in spans.iter().enumerate() {
        let family = root(&mut parents, i);
        first_rows[family] = first_rows[family].min(span.keys.start);
    }
    let mut keyed: Vec<((usize, usize, usize), Span)> = Vec::with_capacity(spans.len());
    for (i, span) in spans.into_iter().enumerate() {
        let family = root(&mut parents, i);
        keyed.push(((first_rows[family], family, span.keys.start), span));
    }
    keyed.sort_by_key(|(key, _)| *key);
    let mut families: Vec<Range<usize>> = Vec::new();
    for i in 0..keyed.len() {
        match families.last_mut() {
            Some(family) if keyed[family.start].0.1 == keyed[i].0.1 => family.end = i + 1,
            _ => families.push(i..i + 1),
        }
    }
    (keyed.into_iter().map(|(_, span)| span).collect(), families)
}

/// The lowest span of `span`'s family so far; shortens the path to it.
fn root(parents: &mut [usize], mut span: usize) -> usize {
    while parents[span] != span {
        parents[span] = parents[parents[span]];
        span = parents[span];
    }
    span
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::{Span, Spans};

    fn span(prefix: Range<usize>, keys: Range<usize>) -> Span {
        Span { queries: keys.clone(), prefix, keys }
    }

    /// Families as sets of first key rows.
    fn families(spans: Vec<Span>, rows: usize) -> Vec<Vec<usize>> {
        let spans = Spans::new(spans, rows, rows).unwrap();
        spans.families().map(|f| f.iter().map(|span| span.keys.start).collect()).collect()
    }

    #[test]
    fn spans_that_share_a_prompt_are_one_family() {
        let spans = vec![
            span(0..0, 0..3),
            span(0..0, 3..6),
            span(3..6, 8..10),
            span(0..3, 6..8),
            span(0..3, 10..11),
        ];
        assert_eq!(families(spans, 11), [vec![0, 6, 10], vec![3, 8]]);
    }

    #[test]
    fn a_prefix_may_reach_through_another_prefix_or_over_two_spans() {
        let chain = vec![span(0..0, 0..2), span(0..2, 2..4), span(2..4, 4..5), span(0..0, 5..6)];
        assert_eq!(families(chain, 6), [vec![0, 2, 4], vec![5]]);
        let bridge = vec![span(0..0, 0..2), span(0..0, 2..4), span(1..3, 4..5), span(0..0, 5..6)];
        assert_eq!(families(bridge, 6), [vec![0, 2, 4], vec![5]]);
        // Rows 0..4 belong to no span.
        let unowned = vec![span(0..3, 4..5), span(2..4, 5..6), span(0..0, 6..7)];
        assert_eq!(families(unowned, 7), [vec![4, 5], vec![6]]);
    }

    proptest! {
        #[test]
        fn families_share_no_key_row(
            lengths in prop::collection::vec((0usize..4, 0usize..40, 0usize..5), 1..12),
        ) {
            let rows = 45 + lengths.iter().map(|(length, ..)| length).sum::<usize>();
            let mut start = 0;
            let spans: Vec<Span> = lengths
                .iter()
                .map(|&(length, from, prefix)| {
                    start += length;
                    span(from..from + prefix, start - length..start)
                })
                .collect();
            let n = spans.len();
            let spans = Spans::new(spans, rows, rows).unwrap();
            let touched = |family: &[Span]| -> std::collections::BTreeSet<usize> {
                family.iter().flat_map(|s| s.prefix.clone().chain(s.keys.clone())).collect()
            };
            let sets: Vec<_> = spans.families().map(touched).collect();
            for (i, a) in sets.iter().enumerate() {
                for b in &sets[i + 1..] {
                    prop_assert!(a.is_disjoint(b));
                }
            }
            prop_assert_eq!(spans.families().map(<[Span]>::len).sum::<usize>(), n);
        }
    }
}
