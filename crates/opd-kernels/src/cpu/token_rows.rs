//! Log-prob, log-sum-exp and entropy of rows of logits.

use rayon::prelude::*;

use super::{
    CHUNK_VALUES, Element,
    columns::Columns,
    dispatch, map_chunks,
    soft_cap::{CappedBlock, SoftCap, Uncapped},
    softmax::{BLOCK, RowStats, Sums},
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
                let mut sums = Sums::NONE;
                self.add(&mut sums, row, |_, _, _| {});
                self.statistics(&self.finish(sums), row[self.ids[first + i] as usize])
            },
        );
    }

    /// Takes in the next logits of a row; see [`Sums::add`].
    #[inline(always)]
    pub(super) fn add<T: Element>(
        &self,
        sums: &mut Sums,
        logits: &[T],
        visit: impl FnMut(usize, &[T], T),
    ) {
        let (temperature, wide) = (self.softmax.temperature, self.width > BLOCK);
        match (self.cap(), self.entropy) {
            (None, false) => sums.add::<T, false>(logits, wide, temperature, Uncapped, visit),
            (None, true) => sums.add::<T, true>(logits, wide, temperature, Uncapped, visit),
            // Beside the cap an entropy costs nothing.
            (Some(cap), _) => {
                sums.add::<T, true>(logits, wide, temperature, CappedBlock::new(cap), visit);
            }
        }
    }

    /// The statistics of a row whose logits have all come.
    #[inline(always)]
    pub(super) fn finish(&self, sums: Sums) -> RowStats {
        match self.entropy || self.softmax.soft_cap.is_some() {
            false => sums.finish::<false>(),
            true => sums.finish::<true>(),
        }
    }

    /// What is saved of a row whose token has this logit.
    #[inline(always)]
    pub(super) fn statistics<T: Element>(&self, stats: &RowStats, logit: T) -> [T; STATISTICS] {
        let log_prob = self.log_prob(stats, logit);
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
