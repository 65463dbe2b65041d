//! The loops as the compiler makes vector code of them.

use super::{LANES, Powers, total};
use crate::cpu::{Element, softmax::BLOCK};

/// Hints that the values a block further will be touched: a block of f32 is a page, where the processor's own
/// fetching ahead ends.
#[inline(always)]
fn fetch_ahead<T>(values: &[T; LANES]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        use crate::cpu::LINE;
        let ahead = values.as_ptr().wrapping_add(BLOCK).cast::<i8>();
        for line in 0..size_of_val(values) / LINE {
            // SAFETY: a hint reads nothing; every x86-64 has the instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * LINE)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

impl<T: Element> Powers<T> {
    #[inline(always)]
    fn exponent(self, x: T) -> T {
        x.mul_add(self.scale, -self.shift)
    }
}

/// The argument, at least what [`Element::exp2`] takes; NaN stays NaN.
#[inline(always)]
fn bounded<T: Element>(x: T) -> T {
    if x < T::LEAST_POWER { T::LEAST_POWER } else { x }
}

#[inline(always)]
fn add<T: Element, const TIES: bool, const WEIGHTED: bool>(
    powers: Powers<T>,
    [ties, rest, weighted]: &mut [[T; LANES]; 3],
    lane: usize,
    x: T,
    max: T,
) {
    let e = bounded(powers.exponent(x));
    let power = e.exp2();
    let tie = TIES && x == max;
    if TIES {
        ties[lane] += if tie { T::ONE } else { T::ZERO };
    }
    rest[lane] += if tie { T::ZERO } else { power };
    if WEIGHTED {
        weighted[lane] = if tie { weighted[lane] } else { power.mul_add(e, weighted[lane]) };
    }
}

#[inline(always)]
pub(super) fn sums<T: Element, const TIES: bool, const WEIGHTED: bool>(
    powers: Powers<T>,
    block: &[T],
    max: T,
) -> [f64; 3] {
    let mut lanes = [[T::ZERO; LANES]; 3];
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        fetch_ahead(chunk);
        for (lane, x) in chunk.iter().enumerate() {
            add::<T, TIES, WEIGHTED>(powers, &mut lanes, lane, *x, max);
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        add::<T, TIES, WEIGHTED>(powers, &mut lanes, lane, *x, max);
    }
    lanes.map(total)
}

/// Sets every value of `out` to `value` of its logit, which `out` holds if `logits` is `None`.
#[inline(always)]
pub(in crate::cpu) fn replace<T: Element>(
    out: &mut [T],
    logits: Option<&[T]>,
    value: impl Fn(T) -> T,
) {
    let n = out.len();
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    match logits {
        Some(logits) => {
            let logits = &logits[..n];
            let (from, from_rest) = logits.as_chunks::<LANES>();
            for (out, logits) in chunks.iter_mut().zip(from) {
                fetch_ahead(out);
                fetch_ahead(logits);
                for (out, x) in out.iter_mut().zip(logits) {
                    *out = value(*x);
                }
            }
            for (out, x) in rest.iter_mut().zip(from_rest) {
                *out = value(*x);
            }
        }
        None => {
            for out in chunks {
                fetch_ahead(out);
                for x in out {
                    *x = value(*x);
                }
            }
            for x in rest {
                *x = value(*x);
            }
        }
    }
}

#[inline(always)]
pub(super) fn gradient<T: Element>(
    powers: Powers<T>,
    out: &mut [T],
    logits: Option<&[T]>,
    factor: T,
) {
    replace(
        out,
        logits,
        #[inline(always)]
        |x| {
            let e = powers.exponent(x);
            if e < T::LEAST_POWER { T::ZERO } else { bounded(e).exp2() * factor }
        },
    );
}

#[inline(always)]
pub(super) fn sloped_gradient<T: Element>(
    powers: Powers<T>,
    out: &mut [T],
    logits: Option<&[T]>,
    [factor, slope, constant]: [T; 3],
) {
    replace(
        out,
        logits,
        #[inline(always)]
        |x| {
            let e = powers.exponent(x);
            let value = bounded(e).exp2() * factor * slope.mul_add(e, constant);
            if e < T::LEAST_POWER { T::ZERO } else { value }
        },
    );
}
