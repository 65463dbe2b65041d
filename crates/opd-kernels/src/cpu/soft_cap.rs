//! Soft caps of logits, block by block.

use super::{Element, softmax::BLOCK};

/// `cap tanh(x / cap)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SoftCap<T> {
    cap: T,
    inverse: T,
}

impl<T: Element> SoftCap<T> {
    pub(crate) fn new(cap: f64) -> Self {
        Self { cap: T::of(cap), inverse: T::of(1.0 / cap) }
    }

    /// The logit under the cap; infinity and NaN stay what they are.
    #[inline(always)]
    pub(crate) fn value(self, x: T) -> T {
        let capped = self.cap * (x * self.inverse).tanh();
        if x * T::ZERO == T::ZERO { capped } else { x }
    }

    /// `1 - tanh(x / cap)^2`, from exponentials: no cancellation near the cap.
    #[inline(always)]
    pub(crate) fn slope(self, x: T) -> T {
        let y = x * self.inverse;
        let e = (if y > T::ZERO { -(y + y) } else { y + y }).exp();
        let whole = T::ONE + e;
        T::of(4.0) * e / (whole * whole)
    }
}

/// What a row's logits are before the temperature, for a block of them at a time.
pub(crate) trait Capped<T> {
    /// The block, and its largest value; `largest` is that of the logits themselves.
    fn block<'a>(&'a mut self, logits: &'a [T], largest: T) -> (&'a [T], T);
}

/// No cap.
#[derive(Debug)]
pub(crate) struct Uncapped;

impl<T> Capped<T> for Uncapped {
    #[inline(always)]
    fn block<'a>(&'a mut self, logits: &'a [T], largest: T) -> (&'a [T], T) {
        (logits, largest)
    }
}

/// A cap, and room for what is below it.
#[derive(Debug)]
pub(crate) struct CappedBlock<T> {
    cap: SoftCap<T>,
    values: [T; BLOCK],
}

impl<T: Element> CappedBlock<T> {
    #[inline(always)]
    pub(crate) fn new(cap: SoftCap<T>) -> Self {
        Self { cap, values: [T::ZERO; BLOCK] }
    }
}

impl<T: Element> Capped<T> for CappedBlock<T> {
    #[inline(always)]
    fn block<'a>(&'a mut self, logits: &'a [T], _: T) -> (&'a [T], T) {
        // A copy: vector code needs to know that what is written is not the cap.
        let cap = self.cap;
        let values = &mut self.values[..logits.len()];
        for (value, x) in values.iter_mut().zip(logits) {
            *value = cap.value(*x);
        }
        let largest = super::softmax::largest(values);
        (values, largest)
    }
}
