//! Divergences as sums over the vocabulary.

use super::Element;

/// A divergence `D(p, q) = sum_v f(p_v, q_v)` of the student's `p` from the teacher's `q`.
pub(crate) trait Measure<T: Element>: Copy + Send + Sync {
    /// `f(p_v, q_v)` and `p_v dD/dp_v` (up to a constant times `p_v`, which the softmax's
    /// gradient cancels). Entries of probability 0 give no NaN.
    fn terms(self, p: T, log_p: T, q: T, log_q: T) -> [T; 2];
}

/// `weight * distance`, 0 where the weight is 0 though the distance be infinite.
#[inline(always)]
fn weighted<T: Element>(weight: T, distance: T) -> T {
    if weight == T::ZERO { T::ZERO } else { weight * distance }
}

/// `KL(q || p)`.
#[derive(Clone, Copy)]
pub(crate) struct ForwardKl;

impl<T: Element> Measure<T> for ForwardKl {
    #[inline(always)]
    fn terms(self, _: T, log_p: T, q: T, log_q: T) -> [T; 2] {
        [weighted(q, log_q - log_p), -q]
    }
}

/// `KL(p || q)`.
#[derive(Clone, Copy)]
pub(crate) struct ReverseKl;

impl<T: Element> Measure<T> for ReverseKl {
    #[inline(always)]
    fn terms(self, p: T, log_p: T, _: T, log_q: T) -> [T; 2] {
        let term = weighted(p, log_p - log_q);
        [term, term]
    }
}

/// `beta KL(q || m) + (1 - beta) KL(p || m)`, `m = beta q + (1 - beta) p`.
#[derive(Clone, Copy)]
pub(crate) struct Jsd<T> {
    pub(crate) beta: T,
}

impl<T: Element> Measure<T> for Jsd<T> {
    #[inline(always)]
    fn terms(self, p: T, log_p: T, q: T, log_q: T) -> [T; 2] {
        let rest = T::ONE - self.beta;
        let log_m = (self.beta * q + rest * p).ln();
        let student = rest * weighted(p, log_p - log_m);
        [self.beta * weighted(q, log_q - log_m) + student, student]
    }
}

/// `KL(q || m)`, `m = alpha q + (1 - alpha) p`.
#[derive(Clone, Copy)]
pub(crate) struct SkewForwardKl<T> {
    pub(crate) alpha: T,
}

impl<T: Element> Measure<T> for SkewForwardKl<T> {
    #[inline(always)]
    fn terms(self, p: T, _: T, q: T, log_q: T) -> [T; 2] {
        let rest = T::ONE - self.alpha;
        let m = self.alpha * q + rest * p;
        let share = if m == T::ZERO { T::ZERO } else { rest * p / m };
        [weighted(q, log_q - m.ln()), -(q * share)]
    }
}

/// `KL(p || m)`, `m = alpha p + (1 - alpha) q`.
#[derive(Clone, Copy)]
pub(crate) struct SkewReverseKl<T> {
    pub(crate) alpha: T,
}

impl<T: Element> Measure<T> for SkewReverseKl<T> {
    #[inline(always)]
    fn terms(self, p: T, log_p: T, q: T, _: T) -> [T; 2] {
        let m = self.alpha * p + (T::ONE - self.alpha) * q;
        let distance = log_p - m.ln();
        [weighted(p, distance), weighted(p, distance - self.alpha * p / m)]
    }
}
