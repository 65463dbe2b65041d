//! The arithmetic of one row: values of a fused projection, or their gradients.

use super::Heads;
use crate::{cpu::Element, rms_norm};

/// Weights of the norms of queries and of keys, and what is added to the mean square.
pub(super) type Norms<'a, T> = (&'a [T], &'a [T], f64);

#[inline(always)]
pub(super) fn row_forward<T: Element>(
    y: &mut [T],
    x: &[T],
    heads: Heads,
    norms: Option<Norms<'_, T>>,
    cos: &[T],
    sin: &[T],
) {
    let pairs = y.chunks_exact_mut(heads.head_dim).zip(x.chunks_exact(heads.head_dim));
    for (h, (y, x)) in pairs.enumerate() {
        match (weight_of(h, heads, norms), h < heads.heads + heads.kv_heads) {
            (_, false) => y.copy_from_slice(x),
            (None, true) => rotate(y, x, cos, sin, T::ONE),
            (Some((weight, eps)), true) => {
                let r = rms_norm::inverse_rms(x, eps);
                rotate_scaled(y, x, weight, r, cos, sin);
            }
        }
    }
}

/// Writes `dx` and adds to the weights' gradients, queries' before keys'; `unrotated` is room.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn row_backward<T: Element>(
    dx: &mut [T],
    (dweights, unrotated): (&mut [f64], &mut [T]),
    x: &[T],
    dy: &[T],
    heads: Heads,
    norms: Option<Norms<'_, T>>,
    cos: &[T],
    sin: &[T],
) {
    let dim = heads.head_dim;
    for (h, dx) in dx.chunks_exact_mut(dim).enumerate() {
        let (x, dy) = (&x[h * dim..][..dim], &dy[h * dim..][..dim]);
        match (weight_of(h, heads, norms), h < heads.heads + heads.kv_heads) {
            (_, false) => dx.copy_from_slice(dy),
            (None, true) => rotate(dx, dy, cos, sin, -T::ONE),
            (Some((weight, eps)), true) => {
                rotate(unrotated, dy, cos, sin, -T::ONE);
                let side = if h < heads.heads { 0 } else { dim };
                let dweight = &mut dweights[side..side + dim];
                rms_norm::row_backward(dx, dweight, x, weight, unrotated, eps);
            }
        }
    }
}

#[inline(always)]
fn weight_of<'a, T: Element>(
    head: usize,
    heads: Heads,
    norms: Option<Norms<'a, T>>,
) -> Option<(&'a [T], f64)> {
    let (query, key, eps) = norms?;
    Some((if head < heads.heads { query } else { key }, eps))
}

/// Rotates by the angle, or back with `direction` -1.
#[inline(always)]
fn rotate<T: Element>(y: &mut [T], x: &[T], cos: &[T], sin: &[T], direction: T) {
    let half = cos.len();
    let (x0, x1) = x.split_at(half);
    let (y0, y1) = y.split_at_mut(half);
    let (x1, y1, sin) = (&x1[..half], &mut y1[..half], &sin[..half]);
    for i in 0..half {
        let s = direction * sin[i];
        y0[i] = x1[i].mul_add(-s, x0[i] * cos[i]);
        y1[i] = x0[i].mul_add(s, x1[i] * cos[i]);
    }
}

#[inline(always)]
fn rotate_scaled<T: Element>(y: &mut [T], x: &[T], weight: &[T], r: T, cos: &[T], sin: &[T]) {
    let half = cos.len();
    let (x0, x1) = x.split_at(half);
    let (w0, w1) = weight.split_at(half);
    let (y0, y1) = y.split_at_mut(half);
    let (x1, w1, y1, sin) = (&x1[..half], &w1[..half], &mut y1[..half], &sin[..half]);
    for i in 0..half {
        let (a, b) = (x0[i] * r * w0[i], x1[i] * r * w1[i]);
        y0[i] = b.mul_add(-sin[i], a * cos[i]);
        y1[i] = a.mul_add(sin[i], b * cos[i]);
    }
}
