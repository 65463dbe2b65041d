//! One pass over a row of logits: what softmax(row / temperature) needs, and its entropy on request.

use super::{
    Element,
    powers::{PowerSums, Powers},
    soft_cap::{Capped, Uncapped},
};

const LANES: usize = 32;

/// Values that stay in the first-level cache between two loops over them.
pub(crate) const BLOCK: usize = 1024;

/// Sums `N` terms of the values at each place of `rows`, in [`LANES`] interleaved partial sums.
#[inline(always)]
pub(crate) fn sum_over<T: Element, const I: usize, const N: usize>(
    rows: [&[T]; I],
    terms: impl Fn([T; I]) -> [T; N],
) -> [f64; N] {
    let mut lanes = [[T::ZERO; LANES]; N];
    let pieces = rows.map(|row| row.as_chunks::<LANES>());
    let whole = pieces.iter().map(|(chunks, _)| chunks.len()).min().unwrap_or(0);
    for i in 0..whole {
        let chunks = pieces.map(|(chunks, _)| &chunks[i]);
        for lane in 0..LANES {
            let terms = terms(chunks.map(|chunk| chunk[lane]));
            for k in 0..N {
                lanes[k][lane] += terms[k];
            }
        }
    }
    let rest = pieces.iter().map(|(_, rest)| rest.len()).min().unwrap_or(0);
    for lane in 0..rest {
        let terms = terms(pieces.map(|(_, rest)| rest[lane]));
        for k in 0..N {
            lanes[k][lane] += terms[k];
        }
    }
    lanes.map(|lanes| lanes.into_iter().map(Element::as_f64).sum())
}

/// The largest value that is not NaN; negative infinity if there is none.
#[inline(always)]
pub(crate) fn largest<T: Element>(values: &[T]) -> T {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] = larger(lanes[lane], *value);
    }
    lanes.into_iter().fold(T::NEG_INFINITY, larger)
}

/// Statistics of `softmax(row / temperature)`.
///
/// ```text
/// log p_v = (x_v - max) / temperature - log_sum
/// ```
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowStats {
    /// Largest logit.
    pub(crate) max: f64,
    /// `log sum_v exp((x_v - max) / temperature)`; to full relative precision even near 0.
    pub(crate) log_sum: f64,
    /// `-sum_v p_v log p_v`, nats; 0 where nobody asks for it.
    pub(crate) entropy: f64,
}

impl RowStats {
    /// One pass over `row`; all NaN where the row holds NaN or infinity, or no finite value.
    #[inline(always)]
    pub(crate) fn of<T: Element>(row: &[T], temperature: f64) -> Self {
        Self::scan::<T, true>(row, temperature, Uncapped, |_, _, _| {})
    }

    /// As [`RowStats::of`], without entropy unless `ENTROPY`; `visit` as in [`Sums::add`].
    #[inline(always)]
    pub(crate) fn scan<T: Element, const ENTROPY: bool>(
        row: &[T],
        temperature: f64,
        cap: impl Capped<T>,
        visit: impl FnMut(usize, &[T], T),
    ) -> Self {
        let mut sums = Sums::NONE;
        sums.add::<T, ENTROPY>(row, row.len() > BLOCK, temperature, cap, visit);
        sums.finish::<ENTROPY>()
    }

    /// Log-prob (nats) of the logit `x`.
    #[inline(always)]
    pub(crate) fn log_prob(&self, x: f64, temperature: f64) -> f64 {
        (x - self.max) / temperature - self.log_sum
    }

    /// `log sum_v exp(x_v / temperature)`.
    #[inline(always)]
    pub(crate) fn log_sum_exp(&self, temperature: f64) -> f64 {
        self.max / temperature + self.log_sum
    }
}

/// Sums over a part of a row, or over what has come of it so far. Entries equal to the maximum are counted apart from the rest: a
/// sum that holds them would round away a small rest, and with it the entropy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    max: f64,
    ties: f64,
    rest: f64,
    weighted: f64,
}

impl Sums {
    /// Of no logits.
    pub(crate) const NONE: Self =
        Self { max: f64::NEG_INFINITY, ties: 0.0, rest: 0.0, weighted: 0.0 };

    /// Takes in the next logits of a row under a cap, whole blocks unless they are its last. `wide`: whether the
    /// row is of more than a block. `visit(first, block, largest)` sees each block while it is at hand,
    /// `first` counted from these logits. Where a row is cut changes no bit.
    #[inline(always)]
    pub(crate) fn add<T: Element, const ENTROPY: bool>(
        &mut self,
        logits: &[T],
        wide: bool,
        temperature: f64,
        mut cap: impl Capped<T>,
        mut visit: impl FnMut(usize, &[T], T),
    ) {
        for (i, block) in logits.chunks(BLOCK).enumerate() {
            let max = largest(block);
            visit(i * BLOCK, block, max);
            if max == T::NEG_INFINITY {
                if block.iter().any(|x| x.is_nan()) {
                    self.rest = f64::NAN;
                }
                continue;
            }
            let (block, max) = cap.block(block, max);
            let block = match wide {
                false => Self::of_short_row::<T, ENTROPY>(block, max, temperature),
                true => Self::of_block::<T, ENTROPY>(block, max, self.max, temperature),
            };
            self.merge(block, temperature);
        }
    }

    /// Of a row that is one block.
    #[inline(always)]
    fn of_short_row<T: Element, const ENTROPY: bool>(
        block: &[T],
        max: T,
        temperature: f64,
    ) -> Self {
        let inverse = T::of(1.0 / temperature);
        let [ties, rest, weighted] = sum_over(
            [block],
            #[inline(always)]
            |[x]| {
                let d = (x - max) * inverse;
                let e = d.exp();
                let tie = d == T::ZERO;
                [
                    if tie { T::ONE } else { T::ZERO },
                    if tie { T::ZERO } else { e },
                    if !ENTROPY || e == T::ZERO { T::ZERO } else { e * d },
                ]
            },
        );
        Self { max: max.as_f64(), ties, rest, weighted }
    }

    /// Of a block after others whose largest value is `so_far`. Below that, what ties with the
    /// block's own maximum is part of the rest.
    #[inline(always)]
    fn of_block<T: Element, const ENTROPY: bool>(
        block: &[T],
        max: T,
        so_far: f64,
        temperature: f64,
    ) -> Self {
        let powers = Powers::new(max, temperature);
        let PowerSums { ties, rest, weighted } = match max.as_f64() < so_far {
            true => powers.sums::<false, ENTROPY>(block, max),
            false => powers.sums::<true, ENTROPY>(block, max),
        };
        Self { max: max.as_f64(), ties, rest, weighted }
    }

    #[inline(always)]
    fn merge(&mut self, mut other: Self, temperature: f64) {
        if other.max > self.max {
            std::mem::swap(self, &mut other);
        }
        let total = other.ties + other.rest;
        if self.max == other.max {
            self.ties += other.ties;
            self.rest += other.rest;
            self.weighted += other.weighted;
        } else if total != 0.0 {
            let shift = (other.max - self.max) / temperature;
            let factor = shift.exp();
            self.rest += total * factor;
            if factor > 0.0 {
                self.weighted += (other.weighted + total * shift) * factor;
            }
        }
    }

    /// The statistics of the row, all of whose logits have come; the entropy is 0 unless `ENTROPY`.
    #[inline(always)]
    pub(crate) fn finish<const ENTROPY: bool>(self) -> RowStats {
        let Self { max, ties, rest, weighted } = self;
        let log_sum = (ties - 1.0 + rest).ln_1p();
        if ties == 0.0 || log_sum.is_nan() {
            return RowStats { max: f64::NAN, log_sum: f64::NAN, entropy: f64::NAN };
        }
        let entropy = if ENTROPY { log_sum - weighted / (ties + rest) } else { 0.0 };
        RowStats { max, log_sum, entropy }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, RowStats};

    #[test]
    fn the_maximum_may_be_in_any_block() {
        for at in [0, BLOCK - 1, BLOCK, 3 * BLOCK + 5] {
            let mut row = vec![-2.0f32; 3 * BLOCK + 6];
            row[at] = 9.0;
            let stats = RowStats::of(&row, 1.0);
            let rest = (row.len() - 1) as f64 * (-11.0f64).exp();
            assert_eq!(stats.max, 9.0);
            assert!((stats.log_sum / rest.ln_1p() - 1.0).abs() < 1e-6, "{stats:?}");
        }
    }

    #[test]
    fn a_small_rest_is_not_rounded_away() {
        let stats = RowStats::of(&[40.0f32, 0.0], 1.0);
        let p = (-40.0f64).exp();
        assert!((stats.log_sum / p - 1.0).abs() < 1e-6);
        assert!((stats.entropy / (41.0 * p) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn ties_and_negative_infinity() {
        let stats = RowStats::of(&[f32::NEG_INFINITY, 1e4, 1e4, f32::NEG_INFINITY], 0.5);
        assert_eq!(stats.max, 1e4);
        assert!((stats.log_sum - 2f64.ln()).abs() < 1e-15);
        assert!((stats.entropy - 2f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn nan_is_not_hidden_by_a_block_of_negative_infinity() {
        let mut row = vec![f32::NEG_INFINITY; 3 * BLOCK];
        row[0] = 1.0;
        row[2 * BLOCK] = f32::NAN;
        assert!(RowStats::of(&row, 1.0).log_sum.is_nan());
        row.swap(0, 2 * BLOCK);
        assert!(RowStats::of(&row, 1.0).log_sum.is_nan());
        assert!(RowStats::of(&[f32::NEG_INFINITY; 4], 1.0).log_sum.is_nan());
        assert!(RowStats::of(&[f32::INFINITY, 0.0], 1.0).log_sum.is_nan());
    }
}
