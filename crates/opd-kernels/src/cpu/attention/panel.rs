use super::Strided;
use crate::{cpu::Element, spans::Span};

/// Values side by side in one step of the inner loops.
pub(super) const LANES: usize = 16;

/// One head of a span's keys (or values), transposed: `[dim, width]`, zero beyond the last key.
pub(super) struct Panel<T> {
    values: Vec<T>,
    width: usize,
}

impl<T: Element> Panel<T> {
    #[inline(always)]
    pub(super) fn new(source: Strided<'_, T>, head: usize, dim: usize, span: &Span) -> Self {
        let n_keys = span.n_keys();
        let width = n_keys.next_multiple_of(LANES);
        let mut values = vec![T::ZERO; dim * width];
        for j in 0..n_keys {
            let key = source.head(span.key_row(j), head, dim);
            for (d, value) in key.iter().enumerate() {
                values[d * width + j] = *value;
            }
        }
        Self { values, width }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// `out[j] = factor * sum_d vector[d] * panel[d][j]`, for whole lanes up to `out.len()`.
    #[inline(always)]
    pub(super) fn products(&self, vector: &[T], factor: T, out: &mut [T]) {
        for (block, out) in out.chunks_exact_mut(LANES).enumerate() {
            let mut sums = [T::ZERO; LANES];
            for (d, x) in vector.iter().enumerate() {
                let row = &self.values[d * self.width + block * LANES..][..LANES];
                for lane in 0..LANES {
                    sums[lane] += *x * row[lane];
                }
            }
            for lane in 0..LANES {
                out[lane] = sums[lane] * factor;
            }
        }
    }
}

/// `out += sum_j weights[j] * rows[j]` over the rows of one head.
#[inline(always)]
pub(super) fn weighted_sum<T: Element>(
    out: &mut [T],
    weights: &[T],
    source: Strided<'_, T>,
    head: usize,
    span: &Span,
) {
    let dim = out.len();
    let whole = dim / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let mut sums = [T::ZERO; LANES];
        for (j, weight) in weights.iter().enumerate() {
            let row = &source.head(span.key_row(j), head, dim)[at..at + LANES];
            for lane in 0..LANES {
                sums[lane] += *weight * row[lane];
            }
        }
        for lane in 0..LANES {
            out[at + lane] += sums[lane];
        }
    }
    for (at, out) in out.iter_mut().enumerate().skip(whole) {
        for (j, weight) in weights.iter().enumerate() {
            *out += *weight * source.head(span.key_row(j), head, dim)[at];
        }
    }
}
