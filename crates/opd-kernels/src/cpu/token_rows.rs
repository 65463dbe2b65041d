//! Log-prob, log-sum-exp and entropy of rows of logits, and their gradients.

use std::f64::consts::LN_2;

use rayon::prelude::*;

use super::{
    CHUNK_VALUES, Element,
    columns::{Columns, ColumnsView},
    dispatch, map_chunks,
    softmax::{BLOCK, RowStats, power, powers_of_two},
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

/// Sets every value of `out` to `gradient` of its logit, which `out` holds if `logits` is `None`.
#[inline(always)]
fn replace<T: Element>(out: &mut [T], logits: Option<&[T]>, gradient: impl Fn(T) -> T) {
    match logits {
        Some(logits) => {
            for (out, x) in out.iter_mut().zip(logits) {
                *out = gradient(*x);
            }
        }
        None => {
            for x in out {
                *x = gradient(*x);
            }
        }
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
        let (max, inverse, shift) = (saved[3], T::of(per), saved[4]);
        let scale = T::of((-log_sum).exp());
        let constant = T::of(per * (g_log_sum_exp - g_log_prob - g_entropy * entropy));
        let slope = T::of(per * g_entropy);
        if out.len() <= BLOCK {
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
        } else if slope == T::ZERO {
            let (inverse, factor) = (powers_of_two(self.temperature), scale * constant);
            replace(
                out,
                logits,
                #[inline(always)]
                |x| {
                    let d = (x - max) * inverse;
                    if d < T::LEAST_POWER { T::ZERO } else { power(d).exp2() * factor }
                },
            );
        } else {
            let inverse = powers_of_two(self.temperature);
            let (slope, constant) = (slope * T::of(-LN_2), constant + slope * shift);
            replace(
                out,
                logits,
                #[inline(always)]
                |x| {
                    let d = (x - max) * inverse;
                    let e = power(d);
                    let p = e.exp2() * scale;
                    if d < T::LEAST_POWER { T::ZERO } else { p * slope.mul_add(e, constant) }
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
