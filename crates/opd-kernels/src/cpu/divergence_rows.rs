//! Divergences between rows of student and teacher logits, and their gradients.

use super::{
    Element,
    columns::{Columns, ColumnsView},
    measure::{Entry, ForwardKl, Jsd, Measure, Mixture, ReverseKl, SkewForwardKl, SkewReverseKl},
    softmax::{BLOCK, RowStats, sum_over},
    token_rows::{for_each_row, set_rows},
};
use crate::Divergence;

/// Divergence, student entropy, log-probs of the id under both; then what the backward reads:
/// maximum and log-sum of both, anchor, `sum_v p_v (u_v - u_anchor)`.
pub(crate) const STATISTICS: usize = 10;

/// Rows of logits of two models over one vocabulary.
#[derive(Clone, Copy)]
pub(crate) struct DivergenceRows<'a> {
    pub(crate) kind: Divergence,
    pub(crate) ids: &'a [u32],
    pub(crate) width: usize,
    pub(crate) temperature: f64,
}

/// Evaluates `$body` with `$measure` standing for the measure of `$kind`, seen from `$anchor`.
macro_rules! by_kind {
    ($kind:expr, $anchor:expr, $measure:ident => $body:expr) => {
        match $kind {
            Divergence::Jsd { beta } if beta > 0.0 && beta < 1.0 => {
                by_kind!(@ $measure = Jsd(Mixture::new(beta, $anchor)), $body)
            }
            Divergence::SkewForwardKl { alpha } if alpha > 0.0 => {
                by_kind!(@ $measure = SkewForwardKl(Mixture::new(alpha, $anchor)), $body)
            }
            Divergence::SkewReverseKl { alpha } if alpha > 0.0 => {
                by_kind!(@ $measure = SkewReverseKl(Mixture::new(1.0 - alpha, $anchor)), $body)
            }
            Divergence::ForwardKl | Divergence::SkewForwardKl { .. } => {
                by_kind!(@ $measure = ForwardKl, $body)
            }
            Divergence::Jsd { beta } if beta == 0.0 => by_kind!(@ $measure = ForwardKl, $body),
            Divergence::ReverseKl | Divergence::SkewReverseKl { .. } | Divergence::Jsd { .. } => {
                by_kind!(@ $measure = ReverseKl { anchor: $anchor }, $body)
            }
        }
    };
    (@ $measure:ident = $value:expr, $body:expr) => {{
        let $measure = $value;
        $body
    }};
}

impl DivergenceRows<'_> {
    /// Statistics of rows `first..` from both models' logits; as many rows as those hold.
    pub(crate) fn forward<T: Element>(
        &self,
        out: &mut Columns<T, STATISTICS>,
        first: usize,
        student: &[T],
        teacher: &[T],
    ) {
        let width = self.width;
        set_rows(
            out,
            first,
            (student.len(), width),
            #[inline(always)]
            |i| {
                let at = i * width..(i + 1) * width;
                let id = self.ids[first + i] as usize;
                self.statistics(id, &student[at.clone()], &teacher[at])
            },
        );
    }

    #[inline(always)]
    fn statistics<T: Element>(&self, id: usize, student: &[T], teacher: &[T]) -> [T; STATISTICS] {
        let p = RowStats::of(student, self.temperature);
        let q = RowStats::of(teacher, self.temperature);
        let saved = [p.max, p.log_sum, q.max, q.log_sum].map(T::of);
        let pair = Pair::new(saved, self.temperature);
        let likeliest = student.iter().position(|x| *x == saved[0]).unwrap_or(0);
        let likeliest = pair.entry(student[likeliest], teacher[likeliest]);
        let anchor = finite(likeliest.log_q - likeliest.log_p);
        let [value, mean] =
            by_kind!(self.kind, anchor, measure => pair.sums(measure, student, teacher));
        let log_prob =
            |stats: &RowStats, row: &[T]| stats.log_prob(row[id].as_f64(), self.temperature);
        let of_id = [log_prob(&p, student), log_prob(&q, teacher)].map(T::of);
        let [max_p, sum_p, max_q, sum_q] = saved;
        let [value, entropy, mean] = [value, p.entropy, mean].map(T::of);
        [value, entropy, of_id[0], of_id[1], max_p, sum_p, max_q, sum_q, anchor, mean]
    }

    /// Gradients of rows `first..` with respect to the student's logits, into `out`; as many
    /// rows as `out` holds. `student` of `None` means that `out` holds the student's logits.
    pub(crate) fn backward<T: Element>(
        &self,
        out: &mut [T],
        first: usize,
        student: Option<&[T]>,
        teacher: &[T],
        saved: ColumnsView<'_, T, STATISTICS>,
        upstream: ColumnsView<'_, T, STATISTICS>,
    ) {
        let width = self.width;
        for_each_row(
            out,
            width,
            #[inline(always)]
            |local, out| {
                let at = local * width..(local + 1) * width;
                if let Some(student) = student {
                    out.copy_from_slice(&student[at.clone()]);
                }
                let row = first + local;
                self.gradient(out, &teacher[at], row, saved.row(row), upstream.row(row));
            },
        );
    }

    #[inline(always)]
    fn gradient<T: Element>(
        &self,
        out: &mut [T],
        teacher: &[T],
        row: usize,
        saved: [T; STATISTICS],
        upstream: [T; STATISTICS],
    ) {
        let [g_value, g_entropy, g_log_prob, ..] = upstream.map(Element::as_f64);
        if g_value == 0.0 && g_entropy == 0.0 && g_log_prob == 0.0 {
            return out.fill(T::ZERO);
        }
        let [_, entropy, log_prob, _, max_p, sum_p, max_q, sum_q, anchor, mean] = saved;
        let pair = Pair::new([max_p, sum_p, max_q, sum_q], self.temperature);
        let per = 1.0 / self.temperature;
        let weights = Weights {
            value: T::of(per * g_value),
            mean,
            constant: T::of(-per * (g_entropy * entropy.as_f64() + g_log_prob)),
            slope: T::of(per * g_entropy),
        };
        let id = self.ids[row] as usize;
        let logit = out[id];
        by_kind!(self.kind, anchor, measure => pair.gradient(measure, weights, out, teacher));
        if g_log_prob != 0.0 {
            // 1 - p from the log-prob: no cancellation where the token is nearly certain.
            let constant = T::of(-per * g_entropy * entropy.as_f64());
            let weights = Weights { constant, ..weights };
            out[id] = logit;
            let at = id..id + 1;
            by_kind!(self.kind, anchor, measure => {
                pair.gradient(measure, weights, &mut out[at.clone()], &teacher[at])
            });
            out[id] += T::of(-per * g_log_prob * log_prob.as_f64().exp_m1());
        }
    }
}

/// Weights of the terms of a row's gradient, over the temperature.
#[derive(Clone, Copy)]
struct Weights<T> {
    value: T,
    mean: T,
    constant: T,
    slope: T,
}

/// What turns two logits into probabilities and log-probs.
#[derive(Clone, Copy)]
struct Pair<T> {
    inverse: T,
    max: [T; 2],
    log_sum: [T; 2],
    scale: [T; 2],
}

impl<T: Element> Pair<T> {
    /// From maximum and log-sum of student and teacher.
    #[inline(always)]
    fn new([max_p, sum_p, max_q, sum_q]: [T; 4], temperature: f64) -> Self {
        let scale = [sum_p, sum_q].map(|log_sum| T::of((-log_sum.as_f64()).exp()));
        let inverse = T::of(1.0 / temperature);
        Self { inverse, max: [max_p, max_q], log_sum: [sum_p, sum_q], scale }
    }

    /// What the logits `x` and `y` say.
    #[inline(always)]
    fn entry(&self, x: T, y: T) -> Entry<T> {
        let [dp, dq] = [(x - self.max[0]) * self.inverse, (y - self.max[1]) * self.inverse];
        Entry {
            p: dp.exp() * self.scale[0],
            log_p: dp - self.log_sum[0],
            q: dq.exp() * self.scale[1],
            log_q: dq - self.log_sum[1],
        }
    }

    /// `D` and `sum_v p_v (u_v - u_anchor)`.
    #[inline(always)]
    fn sums(&self, measure: impl Measure<T>, student: &[T], teacher: &[T]) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for (student, teacher) in student.chunks(BLOCK).zip(teacher.chunks(BLOCK)) {
            let block = sum_over(
                [student, teacher],
                #[inline(always)]
                |[x, y]| measure.terms(self.entry(x, y)),
            );
            sums = [sums[0] + block[0], sums[1] + block[1]];
        }
        sums
    }

    /// Replaces the student's logits in `out` by the gradient.
    ///
    /// ```text
    /// value (p_v (u_v - u_anchor) - p_v mean) + p_v (constant - slope log p_v)
    /// ```
    #[inline(always)]
    fn gradient(
        &self,
        measure: impl Measure<T>,
        weights: Weights<T>,
        out: &mut [T],
        teacher: &[T],
    ) {
        for (x, y) in out.iter_mut().zip(teacher) {
            let entry = self.entry(*x, *y);
            let [_, pull] = measure.terms(entry);
            let rest = entry.p * (weights.constant - weights.slope * entry.log_p);
            let rest = if entry.p == T::ZERO { T::ZERO } else { rest };
            *x = weights.value * (pull - entry.p * weights.mean) + rest;
        }
    }
}

/// The value, or 0 if it is infinite or NaN.
#[inline(always)]
fn finite<T: Element>(value: T) -> T {
    if value.as_f64().is_finite() { value } else { T::ZERO }
}
