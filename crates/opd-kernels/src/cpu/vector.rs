//! Loops over slices, in an order that does not depend on the instruction set's width.

use super::Element;

const LANES: usize = 16;

#[inline(always)]
fn merge<T: Element>(lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `sum_i f(i)` in 16 interleaved partial sums.
#[inline(always)]
pub(crate) fn sum_by<T: Element>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
        i += LANES;
    }
    for i in whole..n {
        lanes[i - whole] += f(i);
    }
    merge(lanes, |a, b| a + b)
}

/// Scalar product of two slices of one length.
#[inline(always)]
pub(crate) fn dot<T: Element>(a: &[T], b: &[T]) -> T {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut lanes = [T::ZERO; LANES];
    let (mut a_chunks, mut b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a_chunks).zip(&mut b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in a_chunks.remainder().iter().zip(b_chunks.remainder()).enumerate() {
        lanes[lane] += *a * *b;
    }
    merge(lanes, |a, b| a + b)
}

/// `y += factor * x`.
#[inline(always)]
pub(crate) fn axpy<T: Element>(y: &mut [T], factor: T, x: &[T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * *x;
    }
}

/// The largest value; negative infinity for none, NaN if any value is NaN.
#[inline(always)]
pub(crate) fn max<T: Element>(values: &[T]) -> T {
    let larger = |a: T, b: T| if b > a || b.is_nan() { b } else { a };
    let mut lanes = [T::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        lanes[lane] = larger(lanes[lane], *value);
    }
    merge(lanes, larger)
}
