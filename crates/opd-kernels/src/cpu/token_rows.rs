//! Log-prob, log-sum-exp and entropy of rows of logits.

use rayon::prelude::*;

use super::{
    CHUNK_VALUES, Element,
    columns::Columns,
    dispatch, map_chunks,
    soft_cap::{CappedBlock, SoftCap, Uncapped},
    softmax::RowStats,
};
use crate::Softmax;

/// Log-prob, log-sum-exp, entropy; then what the backward reads: maximum, log-sum.
pub(crate) const STATISTICS: usize = 5;

/// Rows of one parallel task; rows do not mix, so any cut gives the same bits.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (CHUNK_VALUES / width.max(1)).max(1)
}

/// Sets rows `first..` of `out` to `statistics(i)` of each of the rows of `width` that `values`
/// values make, in parallel and in vector code.
///
/// `statistics` must be `inline(always)`.
#[inline(always)]
pub(crate) fn set_rows<T: Element, const N: usize>(
    out: &mut Columns<T, N>,
    first: usize,
    (values, width): (usize, usize),
    statistics: impl Fn(usize) -> [T; N] + Send + Sync,
) {
    let width = width.max(1);
    let (rows, per_task) = (values / width, rows_per_task(width));
    let parts = map_chunks(rows.div_ceil(per_task), values, |task| {
        let rows = task * per_task..((task + 1) * per_task).min(rows);
        let mut part = Vec::with_capacity(rows.len());
        // A loop: the closures of iterator adaptors would be compiled for the baseline.
        dispatch(
            #[inline(always)]
            || {
                for i in rows {
                    part.push(statistics(i));
                }
            },
        );
        part
    });
    out.set(first, parts.into_iter().flatten());
}

/// Runs `work(i, row)` for each row of `rows`, in parallel and in vector code.
///
/// `work` must be `inline(always)`.
#[inline(always)]
pub(crate) fn for_each_row<T: Element>(
    rows: &mut [T],
    width: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let width = width.max(1);
    let per_task = rows_per_task(width);
    let task = |task: usize, rows: &mut [T]| {
        dispatch(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    work(task * per_task + i, row);
                }
            },
        )
    };
    if rows.len() <= CHUNK_VALUES {
        rows.chunks_mut(per_task * width).enumerate().for_each(|(i, rows)| task(i, rows));
    } else {
        let tasks = rows.par_chunks_mut(per_task * width).enumerate();
        tasks.for_each(|(i, rows)| task(i, rows));
    }
}

/// Rows of logits whose tokens are `ids`.
#[derive(Clone, Copy)]
pub(crate) struct TokenRows<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) width: usize,
    pub(crate) softmax: Softmax,
    /// Whether the entropy is wanted; it is 0 where not.
    pub(crate) entropy: bool,
}

impl TokenRows<'_> {
    /// Statistics of rows `first..` from their `logits`; as many rows as `logits` holds.
    pub(crate) fn forward<T: Element>(
        &self,
        out: &mut Columns<T, STATISTICS>,
        first: usize,
        logits: &[T],
    ) {
        let width = self.width;
        set_rows(
            out,
            first,
            (logits.len(), width),
            #[inline(always)]
            |i| {
                let row = &logits[i * width..][..width];
                self.statistics(&self.scan(row, |_, _, _| {}), row, self.ids[first + i])
            },
        );
    }

    /// One pass over a row; `visit` as in [`RowStats::scan`].
    #[inline(always)]
    pub(super) fn scan<T: Element>(
        &self,
        row: &[T],
        visit: impl FnMut(usize, &[T], T),
    ) -> RowStats {
        let temperature = self.softmax.temperature;
        match (self.cap(), self.entropy) {
            (None, false) => RowStats::scan::<T, false>(row, temperature, Uncapped, visit),
            (None, true) => RowStats::scan::<T, true>(row, temperature, Uncapped, visit),
            // Beside the cap an entropy costs nothing.
            (Some(cap), _) => {
                RowStats::scan::<T, true>(row, temperature, CappedBlock::new(cap), visit)
            }
        }
    }

    #[inline(always)]
    pub(super) fn statistics<T: Element>(
        &self,
        stats: &RowStats,
        row: &[T],
        id: u32,
    ) -> [T; STATISTICS] {
        let log_prob = self.log_prob(stats, row[id as usize]);
        let log_sum_exp = stats.log_sum_exp(self.softmax.temperature);
        [log_prob, log_sum_exp, stats.entropy, stats.max, stats.log_sum].map(T::of)
    }

    /// Log-prob (nats) of a logit of a row with these statistics.
    #[inline(always)]
    pub(super) fn log_prob<T: Element>(&self, stats: &RowStats, x: T) -> f64 {
        let x = self.cap().map_or(x, |cap| cap.value(x));
        stats.log_prob(x.as_f64(), self.softmax.temperature)
    }

    #[inline(always)]
    pub(super) fn cap<T: Element>(&self) -> Option<SoftCap<T>> {
        self.softmax.soft_cap.map(SoftCap::new)
    }
}
