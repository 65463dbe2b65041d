//! Gradients of what is said of rows of logits: log-probs of ids, log-sum-exp, entropy.

use super::{
    Element,
    columns::ColumnsView,
    part::Part,
    powers::{Powers, replace},
    softmax::BLOCK,
    token_rows::{STATISTICS, TokenRows, for_each_row},
};

/// Further ids of each row beside its token; log-probs are `[k, T]`.
#[derive(Clone, Copy)]
pub(crate) struct Further<'a, T> {
    /// `[T, k]`.
    pub(crate) ids: &'a [u32],
    pub(crate) logprobs: &'a [T],
    /// Gradients of the log-probs.
    pub(crate) upstream: &'a [T],
}

impl<T: Element> Further<'_, T> {
    /// None.
    pub(crate) const NONE: Self = Self { ids: &[], logprobs: &[], upstream: &[] };

    /// Adds those of a row, of `rows`, that have a gradient; each id is there once afterwards.
    fn add(&self, pulls: &mut Vec<Pull<T>>, row: usize, rows: usize) {
        let k = self.ids.len() / rows;
        for (j, id) in self.ids[row * k..][..k].iter().enumerate() {
            let at = j * rows + row;
            if self.upstream[at] != T::ZERO {
                pulls.push(Pull::new(*id, self.logprobs[at], self.upstream[at]));
            }
        }
        pulls.sort_by_key(|pull| pull.id);
        pulls.dedup_by(|other, kept| {
            let same = other.id == kept.id;
            kept.weight += if same { other.weight } else { 0.0 };
            same
        });
    }
}

/// An id of a row: its log-prob, the sum of the gradients of that, and its gradient.
#[derive(Clone, Copy)]
struct Pull<T> {
    id: usize,
    log_prob: f64,
    weight: f64,
    gradient: T,
}

impl<T: Element> Pull<T> {
    #[inline(always)]
    fn new(id: u32, log_prob: T, weight: T) -> Self {
        let (log_prob, weight) = (log_prob.as_f64(), weight.as_f64());
        Self { id: id as usize, log_prob, weight, gradient: T::ZERO }
    }
}

impl TokenRows<'_> {
    /// Gradients with respect to the logits of `part`, into `out`, which holds those if `logits` is `None`.
    pub(crate) fn backward<T: Element>(
        &self,
        out: &mut [T],
        part: &Part,
        logits: Option<&[T]>,
        (saved, upstream): (ColumnsView<'_, T, STATISTICS>, ColumnsView<'_, T, STATISTICS>),
        further: Further<'_, T>,
    ) {
        let (first, width) = (part.rows.start, part.ids.len());
        for_each_row(
            out,
            width,
            #[inline(always)]
            |local, out| {
                let row = first + local;
                let logits = logits.map(|logits| &logits[local * width..][..width]);
                let statistics = (saved.row(row), upstream.row(row));
                self.gradient(out, part.ids.start, logits, row, statistics, further);
            },
        );
    }

    /// ```text
    /// dz_v = sum_k g_k (1[v = id_k] - p_v) + g_lse p_v - g_entropy p_v (log p_v + entropy)
    /// dx_v = dz_v cap'(x_v) / temperature
    /// ```
    ///
    /// `out` and `logits` are those of ids `first_id..`.
    #[inline(always)]
    fn gradient<T: Element>(
        &self,
        out: &mut [T],
        first_id: usize,
        logits: Option<&[T]>,
        row: usize,
        (saved, upstream): ([T; STATISTICS], [T; STATISTICS]),
        further: Further<'_, T>,
    ) {
        let [_, g_log_sum_exp, g_entropy, ..] = upstream.map(Element::as_f64);
        let mut token = [Pull::new(self.ids[row], saved[0], upstream[0])];
        let mut all = Vec::new();
        let own = match further.ids.is_empty() {
            true => &mut token[..],
            false => {
                all.extend(token);
                further.add(&mut all, row, self.ids.len());
                &mut all[..]
            }
        };
        let weighs = own.iter().any(|pull| pull.weight != 0.0);
        if !weighs && g_log_sum_exp == 0.0 && g_entropy == 0.0 {
            return out.fill(T::ZERO);
        }
        let total: f64 = own.iter().map(|pull| pull.weight).sum();
        let [_, _, entropy, max, log_sum] = saved.map(Element::as_f64);
        let per = 1.0 / self.softmax.temperature;
        let inside = first_id..first_id + out.len();
        for pull in own.iter_mut().filter(|pull| inside.contains(&pull.id)) {
            let at = pull.id - first_id;
            let x = logits.map_or(out[at], |logits| logits[at]);
            let slope = self.cap().map_or(1.0, |cap| cap.slope(x).as_f64());
            let p = pull.log_prob.exp();
            let curve = if p == 0.0 { 0.0 } else { g_entropy * p * (pull.log_prob + entropy) };
            // 1 - p from the log-prob: no cancellation where the token is nearly certain.
            let pulled = -pull.weight * pull.log_prob.exp_m1() - (total - pull.weight) * p;
            pull.gradient = T::of(per * slope * (pulled + g_log_sum_exp * p - curve));
        }
        let line = Line {
            max: T::of(max),
            log_sum,
            constant: per * (g_log_sum_exp - total - g_entropy * entropy),
            slope: per * g_entropy,
            temperature: self.softmax.temperature,
            wide: self.width > BLOCK,
        };
        match self.cap() {
            None => line.write(out, logits),
            Some(cap) => {
                let [mut values, mut slopes] = [[T::ZERO; BLOCK]; 2];
                for (i, out) in out.chunks_mut(BLOCK).enumerate() {
                    let n = out.len();
                    let x = logits.map_or(&*out, |logits| &logits[i * BLOCK..][..n]);
                    for (j, x) in x.iter().enumerate() {
                        values[j] = cap.value(*x);
                        slopes[j] = cap.slope(*x);
                    }
                    line.write(out, Some(&values[..n]));
                    for (out, slope) in out.iter_mut().zip(&slopes) {
                        *out *= *slope;
                    }
                }
            }
        }
        for pull in own.iter().filter(|pull| inside.contains(&pull.id)) {
            out[pull.id - first_id] = pull.gradient;
        }
    }
}

/// `p_v (constant - slope log p_v)` of a row.
#[derive(Clone, Copy)]
struct Line<T> {
    max: T,
    log_sum: f64,
    constant: f64,
    slope: f64,
    temperature: f64,
    /// Whether the row has more than a block.
    wide: bool,
}

impl<T: Element> Line<T> {
    /// Into `out`, from logits under the cap.
    #[inline(always)]
    fn write(self, out: &mut [T], logits: Option<&[T]>) {
        let Self { max, log_sum, constant, slope, temperature, wide } = self;
        if wide {
            let (powers, scale) = (Powers::new(max, temperature), (-log_sum).exp());
            return match slope == 0.0 {
                true => powers.exponentials(out, logits, scale * constant),
                false => {
                    let line = [-slope, constant + slope * log_sum];
                    powers.sloped_exponentials(out, logits, scale, line);
                }
            };
        }
        let (inverse, shift) = (T::of(1.0 / temperature), T::of(log_sum));
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
}
