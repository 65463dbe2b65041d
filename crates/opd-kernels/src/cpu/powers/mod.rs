//! Sums and gradients of exponentials over wide rows, in powers of 2.
//!
//! ```text
//! exp((x - max) / temperature) = 2^(x scale - shift) 2^-residue
//! scale = log2(e) / temperature,  shift = max scale, rounded,  residue = max scale - shift
//! ```
//!
//! `x scale - shift` is rounded once, so an exponent is as exact as its own size allows, however
//! large the logits are; the residue is put back into what is made of the powers.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::f64::consts::{LN_2, LOG2_E};

pub(super) use self::portable::replace;

use super::Element;

/// Interleaved partial sums, whatever the vectors' width.
const LANES: usize = 32;

/// The exponents of the logits below some maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Powers<T> {
    scale: T,
    shift: T,
    residue: T,
}

/// Sums over some logits at most as large as the maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PowerSums {
    /// How many are the maximum, where those are counted apart; 0 where not.
    pub(crate) ties: f64,
    /// `sum_v exp((x_v - max) / temperature)` of the others.
    pub(crate) rest: f64,
    /// `sum_v exp(d_v) d_v`, `d_v = (x_v - max) / temperature`; 0 where that is not wanted.
    pub(crate) weighted: f64,
}

impl<T: Element> Powers<T> {
    #[inline(always)]
    pub(crate) fn new(max: T, temperature: f64) -> Self {
        let scale = T::of(LOG2_E / temperature);
        let shift = max * scale;
        Self { scale, shift, residue: max.mul_add(scale, -shift) }
    }

    /// Sums over `block`, and a hint that what follows it in memory will be read.
    ///
    /// `TIES`: whether `max`, which the powers are made of, is counted apart from the rest.
    /// `WEIGHTED`: whether the weighted sum is wanted.
    #[inline(always)]
    pub(crate) fn sums<const TIES: bool, const WEIGHTED: bool>(
        self,
        block: &[T],
        max: T,
    ) -> PowerSums {
        let [ties, rest, weighted] = T::power_sums::<TIES, WEIGHTED>(self, block, max);
        let residue = self.residue.as_f64();
        let whole = (-residue).exp2();
        let weighted = if WEIGHTED { (weighted - residue * rest) * whole * LN_2 } else { 0.0 };
        PowerSums { ties, rest: rest * whole, weighted }
    }

    /// `out_v = exp((x_v - max) / temperature) factor`.
    ///
    /// `logits` of `None` means that `out` holds them.
    #[inline(always)]
    pub(crate) fn exponentials(self, out: &mut [T], logits: Option<&[T]>, factor: f64) {
        let factor = T::of(factor * (-self.residue.as_f64()).exp2());
        T::power_gradient(self, out, logits, factor);
    }

    /// `out_v = exp(d_v) factor (slope d_v + constant)`, `d_v = (x_v - max) / temperature`.
    #[inline(always)]
    pub(crate) fn sloped_exponentials(
        self,
        out: &mut [T],
        logits: Option<&[T]>,
        factor: f64,
        [slope, constant]: [f64; 2],
    ) {
        let residue = self.residue.as_f64();
        let (factor, slope) = (factor * (-residue).exp2(), slope * LN_2);
        let line = [factor, slope, constant - slope * residue].map(T::of);
        T::power_gradient_sloped(self, out, logits, line);
    }
}

/// The sum of interleaved partial sums, half onto half.
#[inline(always)]
fn total<T: Element>(lanes: [T; LANES]) -> f64 {
    let mut wide = lanes.map(Element::as_f64);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            wide[i] += wide[i + half];
        }
        half /= 2;
    }
    wide[0]
}

/// Loops of one dtype over [`Powers`]; the same bits on every machine.
pub(crate) trait PowerLoops: Sized {
    /// Ties, rest and weighted sum, without the residue and in powers of 2.
    fn power_sums<const TIES: bool, const WEIGHTED: bool>(
        powers: Powers<Self>,
        block: &[Self],
        max: Self,
    ) -> [f64; 3];

    /// `2^e factor`.
    fn power_gradient(
        powers: Powers<Self>,
        out: &mut [Self],
        logits: Option<&[Self]>,
        factor: Self,
    );

    /// `2^e factor (slope e + constant)`.
    fn power_gradient_sloped(
        powers: Powers<Self>,
        out: &mut [Self],
        logits: Option<&[Self]>,
        line: [Self; 3],
    );
}

impl PowerLoops for f64 {
    #[inline(always)]
    fn power_sums<const TIES: bool, const WEIGHTED: bool>(
        powers: Powers<f64>,
        block: &[f64],
        max: f64,
    ) -> [f64; 3] {
        portable::sums::<f64, TIES, WEIGHTED>(powers, block, max)
    }

    #[inline(always)]
    fn power_gradient(powers: Powers<f64>, out: &mut [f64], logits: Option<&[f64]>, factor: f64) {
        portable::gradient(powers, out, logits, factor);
    }

    #[inline(always)]
    fn power_gradient_sloped(
        powers: Powers<f64>,
        out: &mut [f64],
        logits: Option<&[f64]>,
        line: [f64; 3],
    ) {
        portable::sloped_gradient(powers, out, logits, line);
    }
}

impl PowerLoops for f32 {
    #[inline(always)]
    fn power_sums<const TIES: bool, const WEIGHTED: bool>(
        powers: Powers<f32>,
        block: &[f32],
        max: f32,
    ) -> [f64; 3] {
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            // SAFETY: the machine has the instructions.
            return unsafe { avx512::sums::<TIES, WEIGHTED>(powers, block, max) };
        }
        portable::sums::<f32, TIES, WEIGHTED>(powers, block, max)
    }

    #[inline(always)]
    fn power_gradient(powers: Powers<f32>, out: &mut [f32], logits: Option<&[f32]>, factor: f32) {
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            // SAFETY: the machine has the instructions.
            return unsafe { avx512::gradient(powers, out, logits, factor) };
        }
        portable::gradient(powers, out, logits, factor);
    }

    #[inline(always)]
    fn power_gradient_sloped(
        powers: Powers<f32>,
        out: &mut [f32],
        logits: Option<&[f32]>,
        line: [f32; 3],
    ) {
        #[cfg(target_arch = "x86_64")]
        if avx512::available() {
            // SAFETY: the machine has the instructions.
            return unsafe { avx512::sloped_gradient(powers, out, logits, line) };
        }
        portable::sloped_gradient(powers, out, logits, line);
    }
}
