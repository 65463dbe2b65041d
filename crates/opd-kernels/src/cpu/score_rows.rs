//! All that is asked of rows of logits, in one pass over them.

use candle_core::Tensor;

use super::{
    Element,
    columns::ColumnsView,
    dispatch,
    likeliest::Likeliest,
    map_chunks,
    token_gradient::Further,
    token_rows::{STATISTICS, TokenRows, rows_per_task},
};
use crate::Result;

/// Rows of logits, and what is asked beside their tokens.
#[derive(Clone, Copy)]
pub(crate) struct ScoreRows<'a> {
    pub(crate) tokens: TokenRows<'a>,
    /// `[T, n]` ids whose log-probs are wanted.
    pub(crate) named: &'a [u32],
    pub(crate) n_named: usize,
    /// How many of the likeliest ids are wanted, with their log-probs; at most the width.
    pub(crate) top: usize,
}

/// What is found.
#[derive(Debug)]
pub(crate) struct Scored<T> {
    columns: usize,
    rows: usize,
    /// `[5 + n + top, T]`: the statistics, log-probs of the named ids and of the likeliest.
    values: Vec<T>,
    /// `[T, top]`.
    top: Vec<u32>,
}

impl<T: Element> Scored<T> {
    /// The values as a tensor `[5 + n + top, T]`, and the likeliest ids `[T, top]`.
    pub(crate) fn finish(self) -> Result<(Tensor, Vec<u32>)> {
        Ok((super::tensor(self.values, (self.columns, self.rows))?, self.top))
    }
}

/// Some rows' values and likeliest ids, row by row.
struct Part<T> {
    values: Vec<T>,
    top: Vec<u32>,
}

impl ScoreRows<'_> {
    fn columns(&self) -> usize {
        STATISTICS + self.n_named + self.top
    }

    /// Room for what is found in all rows.
    pub(crate) fn room<T: Element>(&self) -> Scored<T> {
        let (columns, rows) = (self.columns(), self.tokens.ids.len());
        let values = vec![T::ZERO; columns * rows];
        Scored { columns, rows, values, top: Vec::with_capacity(rows * self.top) }
    }

    /// Scores rows `first..`, those after the rows that `out` has; as many as `logits` holds.
    pub(crate) fn forward<T: Element>(&self, out: &mut Scored<T>, first: usize, logits: &[T]) {
        let width = self.tokens.width.max(1);
        let (rows, per_task) = (logits.len() / width, rows_per_task(width));
        let parts = map_chunks(rows.div_ceil(per_task), logits.len(), |task| {
            let rows = task * per_task..((task + 1) * per_task).min(rows);
            let mut part = Part {
                values: Vec::with_capacity(rows.len() * self.columns()),
                top: Vec::with_capacity(rows.len() * self.top),
            };
            let mut likeliest = Likeliest::new(self.top, width);
            dispatch(
                #[inline(always)]
                || {
                    for i in rows {
                        self.row(
                            &mut part,
                            first + i,
                            &logits[i * width..][..width],
                            &mut likeliest,
                        );
                    }
                },
            );
            part
        });
        let mut row = first;
        for part in parts {
            for values in part.values.chunks_exact(out.columns) {
                for (column, value) in values.iter().enumerate() {
                    out.values[column * out.rows + row] = *value;
                }
                row += 1;
            }
            out.top.extend(part.top);
        }
    }

    #[inline(always)]
    fn row<T: Element>(
        &self,
        part: &mut Part<T>,
        row: usize,
        logits: &[T],
        likeliest: &mut Likeliest<T>,
    ) {
        let stats = self.tokens.scan(
            logits,
            #[inline(always)]
            |first, block, largest| likeliest.take(first, block, largest),
        );
        part.values.extend(self.tokens.statistics(&stats, logits, self.tokens.ids[row]));
        let found = part.top.len();
        likeliest.finish(&mut part.top);
        let named = &self.named[row * self.n_named..][..self.n_named];
        for id in named.iter().chain(&part.top[found..]) {
            let log_prob = self.tokens.log_prob(&stats, logits[*id as usize]);
            part.values.push(T::of(log_prob));
        }
    }
}

/// A score's values and their gradient, `[5 + k, T]` each, and the `k` ids `[T, k]`.
#[derive(Clone, Copy)]
pub(crate) struct ScoreGradient<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) upstream: &'a [T],
    pub(crate) further: &'a [u32],
}

impl TokenRows<'_> {
    /// [`TokenRows::backward`] from a score.
    pub(crate) fn backward_of_score<T: Element>(
        &self,
        out: &mut [T],
        first: usize,
        logits: Option<&[T]>,
        score: ScoreGradient<'_, T>,
    ) {
        let at = STATISTICS * self.ids.len();
        let ((saved, logprobs), (upstream, of_logprobs)) =
            (score.values.split_at(at), score.upstream.split_at(at));
        let statistics = (ColumnsView::new(saved), ColumnsView::new(upstream));
        let further = Further { ids: score.further, logprobs, upstream: of_logprobs };
        self.backward(out, first, logits, statistics, further);
    }
}
