//! Log-prob, log-sum-exp and entropy of rows of logits, and their gradients.

use rayon::prelude::*;

use super::{
    CHUNK_VALUES, Element,
    columns::{Columns, ColumnsView},
    dispatch, map_chunks,
    powers::{Powers, replace},
    softmax::{BLOCK, RowStats},
};

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
    pub(crate) temperature: f64,
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
            |i| self.statistics(&logits[i * width..][..width], self.ids[first + i]),
        );
    }

    #[inline(always)]
    fn statistics<T: Element>(&self, row: &[T], id: u32) -> [T; STATISTICS] {
        let stats = RowStats::of(row, self.temperature);
        let log_prob = stats.log_prob(row[id as usize].as_f64(), self.temperature);
        let log_sum_exp = stats.log_sum_exp(self.temperature);
        [log_prob, log_sum_exp, stats.entropy, stats.max, stats.log_sum].map(T::of)
    }

    /// Gradients of rows `first..` with respect to their logits, into `out`; as many rows as
    /// `out` holds. `logits` of `None` means that `out` holds them.
    pub(crate) fn backward<T: Element>(
        &self,
        out: &mut [T],
        first: usize,
        logits: Option<&[T]>,
        saved: ColumnsView<'_, T, STATISTICS>,
        upstream: ColumnsView<'_, T, STATISTICS>,
    ) {
        let width = self.width;
        for_each_row(
            out,
            width,
            #[inline(always)]
            |local, out| {
                let row = first + local;
                let logits = logits.map(|logits| &logits[local * width..][..width]);
                self.gradient(out, logits, row, saved.row(row), upstream.row(row));
            },
        );
    }

    /// ```text
    /// dx_v = (g_logp (1[v = id] - p_v) + g_lse p_v - g_entropy p_v (log p_v + entropy)) / temperature
    /// ```
    #[inline(always)]
    fn gradient<T: Element>(
        &self,
        out: &mut [T],
        logits: Option<&[T]>,
        row: usize,
        saved: [T; STATISTICS],
        upstream: [T; STATISTICS],
    ) {
        let [g_log_prob, g_log_sum_exp, g_entropy, ..] = upstream.map(Element::as_f64);
        if g_log_prob == 0.0 && g_log_sum_exp == 0.0 && g_entropy == 0.0 {
            return out.fill(T::ZERO);
        }
        let [log_prob, _, entropy, _, log_sum] = saved.map(Element::as_f64);
        let per = 1.0 / self.temperature;
        let constant = per * (g_log_sum_exp - g_log_prob - g_entropy * entropy);
        let slope = per * g_entropy;
        let max = saved[3];
        if out.len() > BLOCK {
            let (powers, scale) = (Powers::new(max, self.temperature), (-log_sum).exp());
            match slope == 0.0 {
                true => powers.exponentials(out, logits, scale * constant),
                false => {
                    let line = [-slope, constant + slope * log_sum];
                    powers.sloped_exponentials(out, logits, scale, line);
                }
            }
        } else {
            let (inverse, shift) = (T::of(per), saved[4]);
            let [scale, constant, slope] = [(-log_sum).exp(), constant, slope].map(T::of);
            replace(
                out,
                logits,
                #[inline(always)]
                |x| {
                    let d = (x - max) * inverse;
                    let p = d.exp() * scale;
                    let gradient = p * (constant - slope * (d - shift));
                    if p == T::ZERO { T::ZERO } else { gradient }
                },
            );
        }
        // 1 - p from the log-prob: no cancellation where the token is nearly certain.
        let p = log_prob.exp();
        let curve = if p == 0.0 { 0.0 } else { g_entropy * p * (log_prob + entropy) };
        let target = -g_log_prob * log_prob.exp_m1() + g_log_sum_exp * p - curve;
        out[self.ids[row] as usize] = T::of(per * target);
    }
}
