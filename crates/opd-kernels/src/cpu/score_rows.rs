//! All that is asked of rows of logits, in one pass over them.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{
    Element,
    columns::ColumnsView,
    dispatch,
    likeliest::Likeliest,
    map_chunks,
    part::Part,
    softmax::Sums,
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
    /// What is found in rows `first..`, which follow those that are set.
    fn set(&mut self, first: usize, found: impl IntoIterator<Item = Found<T>>) {
        let mut row = first;
        for found in found {
            for values in found.values.chunks_exact(self.columns) {
                for (column, value) in values.iter().enumerate() {
                    self.values[column * self.rows + row] = *value;
                }
                row += 1;
            }
            self.top.extend(found.top);
        }
    }

    /// The values as a tensor `[5 + n + top, T]`, and the likeliest ids `[T, top]`.
    pub(crate) fn finish(self) -> Result<(Tensor, Vec<u32>)> {
        Ok((super::tensor(self.values, (self.columns, self.rows))?, self.top))
    }
}

/// Some rows' values and likeliest ids, row by row.
struct Found<T> {
    values: Vec<T>,
    top: Vec<u32>,
}

/// What is known of a row of whose logits a part has come.
#[derive(Debug)]
pub(crate) struct RowScan<T> {
    sums: Sums,
    likeliest: Likeliest<T>,
    /// Of the token and of the named ids.
    logits: Vec<T>,
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

    fn room_of<T>(&self, rows: usize) -> Found<T> {
        Found {
            values: Vec::with_capacity(rows * self.columns()),
            top: Vec::with_capacity(rows * self.top),
        }
    }

    /// Scores rows `first..`, those after the rows that `out` has; as many as `logits` holds.
    pub(crate) fn forward<T: Element>(&self, out: &mut Scored<T>, first: usize, logits: &[T]) {
        let width = self.tokens.width.max(1);
        let (rows, per_task) = (logits.len() / width, rows_per_task(width));
        let parts = map_chunks(rows.div_ceil(per_task), logits.len(), |task| {
            let rows = task * per_task..((task + 1) * per_task).min(rows);
            let (mut found, mut scan) = (self.room_of(rows.len()), self.scan());
            dispatch(
                #[inline(always)]
                || {
                    for i in rows {
                        self.take(&mut scan, first + i, 0, &logits[i * width..][..width]);
                        self.finish(&mut found, &mut scan);
                    }
                },
            );
            found
        });
        out.set(first, parts);
    }

    /// Scans of this many rows, of whose logits none has come.
    pub(crate) fn scans<T: Element>(&self, rows: usize) -> Vec<RowScan<T>> {
        (0..rows).map(|_| self.scan()).collect()
    }

    fn scan<T: Element>(&self) -> RowScan<T> {
        RowScan {
            sums: Sums::NONE,
            likeliest: Likeliest::new(self.top, self.tokens.width),
            logits: vec![T::ZERO; 1 + self.n_named],
        }
    }

    /// Takes in the logits `[n, ids]` of a part that follows those that have come of its rows; whole blocks of
    /// ids unless they are the last.
    pub(crate) fn take_part<T: Element>(
        &self,
        scans: &mut [RowScan<T>],
        part: &Part,
        logits: &[T],
    ) {
        let width = part.ids.len().max(1);
        let per_task = rows_per_task(width);
        let tasks = scans.par_chunks_mut(per_task).zip(logits.par_chunks(per_task * width));
        tasks.enumerate().for_each(|(task, (scans, logits))| {
            dispatch(
                #[inline(always)]
                || {
                    for (i, scan) in scans.iter_mut().enumerate() {
                        let row = part.rows.start + task * per_task + i;
                        self.take(scan, row, part.ids.start, &logits[i * width..][..width]);
                    }
                },
            );
        });
    }

    /// Scores rows `first..`, those after the rows that `out` has, all of whose logits have come.
    pub(crate) fn finish_rows<T: Element>(
        &self,
        out: &mut Scored<T>,
        first: usize,
        scans: Vec<RowScan<T>>,
    ) {
        let mut found = self.room_of(scans.len());
        for mut scan in scans {
            self.finish(&mut found, &mut scan);
        }
        out.set(first, [found]);
    }

    /// Takes in a row's logits of ids `first_id..`.
    #[inline(always)]
    fn take<T: Element>(&self, scan: &mut RowScan<T>, row: usize, first_id: usize, logits: &[T]) {
        let likeliest = &mut scan.likeliest;
        self.tokens.add(
            &mut scan.sums,
            logits,
            #[inline(always)]
            |first, block, largest| likeliest.take(first_id + first, block, largest),
        );
        let named = &self.named[row * self.n_named..][..self.n_named];
        for (logit, id) in
            scan.logits.iter_mut().zip(self.tokens.ids[row..=row].iter().chain(named))
        {
            if let Some(x) = logits.get((*id as usize).wrapping_sub(first_id)) {
                *logit = *x;
            }
        }
    }

    /// Adds what is found in a row, and makes the scan ready for another.
    #[inline(always)]
    fn finish<T: Element>(&self, found: &mut Found<T>, scan: &mut RowScan<T>) {
        let stats = self.tokens.finish(std::mem::replace(&mut scan.sums, Sums::NONE));
        found.values.extend(self.tokens.statistics(&stats, scan.logits[0]));
        let log_prob = |x: T| T::of(self.tokens.log_prob(&stats, x));
        found.values.extend(scan.logits[1..].iter().map(|x| log_prob(*x)));
        for (id, x) in scan.likeliest.finish() {
            found.top.push(id);
            found.values.push(log_prob(x));
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
        part: &Part,
        logits: Option<&[T]>,
        score: ScoreGradient<'_, T>,
    ) {
        let at = STATISTICS * self.ids.len();
        let ((saved, logprobs), (upstream, of_logprobs)) =
            (score.values.split_at(at), score.upstream.split_at(at));
        let statistics = (ColumnsView::new(saved), ColumnsView::new(upstream));
        let further = Further { ids: score.further, logprobs, upstream: of_logprobs };
        self.backward(out, part, logits, statistics, further);
    }
}
