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

    /// Row of the key and value tensors of the span's `j`th key.
    pub(crate) fn key_row(&self, j: usize) -> usize {
        match j.checked_sub(self.prefix.len()) {
            None => self.prefix.start + j,
            Some(j) => self.keys.start + j,
        }
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
    /// # Errors
    ///
    /// [`Error::Setting`] if a span reaches outside the rows, has more queries than keys, or
    /// if two spans share query rows or (causal) key rows, or a prefix does not lie inside
    /// the keys of one span before it. Key rows that no span owns may serve as prefix.
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

/// Sorts spans by the first key row of the span that owns their prefix (or of themselves),
/// and cuts them where that changes.
fn families(spans: Vec<Span>) -> (Vec<Span>, Vec<Range<usize>>) {
    let mut owners: Vec<Range<usize>> = spans.iter().map(|span| span.keys.clone()).collect();
    owners.sort_by_key(|range| range.start);
    let owner = |row: usize| {
        let i = owners.partition_point(|range| range.end <= row);
        owners.get(i).filter(|range| range.contains(&row)).map_or(row, |range| range.start)
    };
    let root = |span: &Span| {
        if span.prefix.is_empty() { span.keys.start } else { owner(span.prefix.start) }
    };
    let mut keyed: Vec<(usize, Span)> = spans.into_iter().map(|span| (root(&span), span)).collect();
    keyed.sort_by_key(|(root, span)| (*root, span.keys.start));
    let mut families: Vec<Range<usize>> = Vec::new();
    for i in 0..keyed.len() {
        match families.last_mut() {
            Some(family) if keyed[family.start].0 == keyed[i].0 => family.end = i + 1,
            _ => families.push(i..i + 1),
        }
    }
    (keyed.into_iter().map(|(_, span)| span).collect(), families)
}
