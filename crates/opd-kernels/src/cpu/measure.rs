//! Divergences as sums over the vocabulary.

use super::Element;

/// One entry of the distributions of student (`p`) and teacher (`q`), with logarithms.
#[derive(Clone, Copy)]
pub(crate) struct Entry<T> {
    pub(crate) p: T,
    pub(crate) log_p: T,
    pub(crate) q: T,
    pub(crate) log_q: T,
}

/// A divergence `D(p, q) = sum_v f(p_v, q_v)` of the student from the teacher.
///
/// The gradient at an entry is `p_v (u_v - sum_w p_w u_w)` with `u_v = dD/dp_v`. Where the student
/// is nearly certain that is a difference of nearly equal numbers; a constant taken off every
/// `u_v` cancels in it, so each measure takes off the `u` of an anchor, the likeliest entry's
/// `log q - log p`, in a form that keeps the digits of the difference.
pub(crate) trait Measure<T: Element>: Copy + Send + Sync {
    /// `f(p_v, q_v)` and `p_v (u_v - u_anchor)`. Entries of probability 0 give no NaN.
    fn terms(self, entry: Entry<T>) -> [T; 2];
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
    /// `p u = -q` without a division; no anchor, for the gradient's difference is `p - q`.
    #[inline(always)]
    fn terms(self, entry: Entry<T>) -> [T; 2] {
        let Entry { log_p, q, log_q, .. } = entry;
        [weighted(q, log_q - log_p), -q]
    }
}

/// `KL(p || q)`.
#[derive(Clone, Copy)]
pub(crate) struct ReverseKl<T> {
    pub(crate) anchor: T,
}

impl<T: Element> Measure<T> for ReverseKl<T> {
    #[inline(always)]
    fn terms(self, entry: Entry<T>) -> [T; 2] {
        let distance = entry.log_p - entry.log_q;
        [weighted(entry.p, distance), weighted(entry.p, distance + self.anchor)]
    }
}

/// `m = beta q + (1 - beta) p`, seen from the anchor.
#[derive(Clone, Copy)]
pub(crate) struct Mixture<T> {
    beta: T,
    anchor: T,
    /// Shares of `q` and `p` in `m` at the anchor.
    shares: [T; 2],
    /// `log(p / m)` and `log(q / m)` at the anchor.
    log_ratios: [T; 2],
}

/// What an entry's ratios are, relative to the anchor's.
#[derive(Clone, Copy)]
struct Ratios<T> {
    /// `log(p / m)` less the anchor's.
    log_p: T,
    /// `log(q / m)` less the anchor's.
    log_q: T,
}

impl<T: Element> Mixture<T> {
    /// `beta` in `0..1`, not 0; `anchor` finite.
    #[inline(always)]
    pub(crate) fn new(beta: f64, anchor: T) -> Self {
        // Any anchor is right; a share of q that f32 cannot hold would be useless.
        let anchor = anchor.as_f64().max(-80.0 - beta.ln());
        let parts = [beta * anchor.exp(), 1.0 - beta];
        let m = parts[0] + parts[1];
        Self {
            beta: T::of(beta),
            anchor: T::of(anchor),
            shares: parts.map(|part| T::of(part / m)),
            log_ratios: [-m.ln(), anchor - m.ln()].map(T::of),
        }
    }

    /// `log m/p` grows from the anchor by `log(share_p + share_q exp(step))`: of the three
    /// forms of it each is used where it loses nothing.
    #[inline(always)]
    fn ratios(self, entry: Entry<T>) -> Ratios<T> {
        let half = T::of(-0.5);
        let [share_q, share_p] = self.shares;
        let step = (entry.log_q - entry.log_p) - self.anchor;
        let grown = step.exp();
        let x = share_q * exp_m1(step, grown);
        let (falls, leaps) = (x < half, x > T::ONE);
        let sum = if leaps { share_q + share_p / grown } else { T::ONE + x };
        let sum = if falls { share_p + share_q * grown } else { sum };
        let log = sum.fast_ln();
        // The quotient puts back what 1 + x rounded away.
        let near = if sum == T::ONE { x } else { log * (x / (sum - T::ONE)) };
        let log_m = if falls { log } else { near };
        let log_m = if leaps { step + log } else { log_m };
        Ratios { log_p: -log_m, log_q: if leaps { -log } else { step - log_m } }
    }
}

/// `1 / n!` from 12 down to 1.
const INVERSE_FACTORIALS: [f64; 12] = {
    let mut values = [1.0; 12];
    let mut at = 11;
    while at > 0 {
        values[at - 1] = values[at] / (13 - at) as f64;
        at -= 1;
    }
    values
};

/// `exp(x) - 1`, given `exp(x)`.
#[inline(always)]
fn exp_m1<T: Element>(x: T, exp: T) -> T {
    let mut series = T::ZERO;
    for coefficient in INVERSE_FACTORIALS {
        series = series.mul_add(x, T::of(coefficient));
    }
    let limit = T::of(0.3);
    if x < limit && x > -limit { series * x } else { exp - T::ONE }
}

/// `beta KL(q || m) + (1 - beta) KL(p || m)`, `m = beta q + (1 - beta) p`.
#[derive(Clone, Copy)]
pub(crate) struct Jsd<T>(pub(crate) Mixture<T>);

impl<T: Element> Measure<T> for Jsd<T> {
    #[inline(always)]
    fn terms(self, entry: Entry<T>) -> [T; 2] {
        let Mixture { beta, log_ratios: [of_p, of_q], .. } = self.0;
        let (rest, from) = (T::ONE - beta, self.0.ratios(entry));
        let teacher = beta * weighted(entry.q, of_q + from.log_q);
        let student = rest * weighted(entry.p, of_p + from.log_p);
        [teacher + student, weighted(entry.p, rest * from.log_p)]
    }
}

/// `KL(q || m)`, `m = alpha q + (1 - alpha) p`.
#[derive(Clone, Copy)]
pub(crate) struct SkewForwardKl<T>(pub(crate) Mixture<T>);

impl<T: Element> Measure<T> for SkewForwardKl<T> {
    /// `u = -(1 - alpha) q / m`.
    #[inline(always)]
    fn terms(self, entry: Entry<T>) -> [T; 2] {
        let Mixture { beta, log_ratios: [_, of_q], .. } = self.0;
        let from = self.0.ratios(entry);
        let u = (beta - T::ONE) * of_q.exp() * exp_m1(from.log_q, from.log_q.exp());
        [weighted(entry.q, of_q + from.log_q), weighted(entry.p, u)]
    }
}

/// `KL(p || m)`, `m = alpha p + (1 - alpha) q`.
#[derive(Clone, Copy)]
pub(crate) struct SkewReverseKl<T>(pub(crate) Mixture<T>);

impl<T: Element> Measure<T> for SkewReverseKl<T> {
    /// `u = log(p / m) - alpha p / m`.
    #[inline(always)]
    fn terms(self, entry: Entry<T>) -> [T; 2] {
        let Mixture { log_ratios: [of_p, _], shares: [_, share_p], .. } = self.0;
        let from = self.0.ratios(entry);
        let u = from.log_p - share_p * exp_m1(from.log_p, from.log_p.exp());
        [weighted(entry.p, of_p + from.log_p), weighted(entry.p, u)]
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Mixture, exp_m1};

    #[test]
    fn small_arguments_keep_their_digits() {
        for i in 0..2100 {
            let size = 1e-9 * (1.01f64).powi(i);
            for x in [size, -size] {
                let (got, want) = (exp_m1(x, x.exp()), x.exp_m1());
                assert!((got / want - 1.0).abs() < 1e-14, "exp_m1({x}) = {got}, not {want}");
                let x = x as f32;
                let (got, want) = (exp_m1(x, x.exp()) as f64, (x as f64).exp_m1());
                assert!((got / want - 1.0).abs() < 5e-7, "exp_m1({x}) = {got}, not {want}");
            }
        }
    }

    fn entry(log_p: f64, log_q: f64) -> Entry<f64> {
        Entry { p: log_p.exp(), log_p, q: log_q.exp(), log_q }
    }

    #[test]
    fn ratios_do_not_depend_on_the_anchor() {
        let logs = [-60.0f64, -30.0, -5.0, -0.7, -0.69, -1e-3];
        for (log_p, log_q) in logs.into_iter().flat_map(|p| logs.map(|q| (p, q))) {
            for beta in [0.1f64, 0.5, 0.9] {
                let m = beta * log_q.exp() + (1.0 - beta) * log_p.exp();
                for anchor in [-60.0, -20.0, -1.0, 0.0, 0.3, 4.0] {
                    let mixture = Mixture::new(beta, anchor);
                    let from = mixture.ratios(entry(log_p, log_q));
                    let got =
                        [mixture.log_ratios[0] + from.log_p, mixture.log_ratios[1] + from.log_q];
                    for (got, want) in got.into_iter().zip([log_p - m.ln(), log_q - m.ln()]) {
                        assert!((got - want).abs() < 1e-12, "{log_p} {log_q} {beta} {anchor}");
                    }
                }
            }
        }
    }

    #[test]
    fn ratios_of_what_cannot_occur() {
        let mixture = Mixture::new(0.5, 0.25f64);
        let [of_p, of_q] = mixture.log_ratios;
        let from = mixture.ratios(entry(f64::NEG_INFINITY, -1.0));
        assert_eq!(from.log_p, f64::NEG_INFINITY);
        assert!((of_q + from.log_q - 2f64.ln()).abs() < 1e-15);
        let from = mixture.ratios(entry(-1.0, f64::NEG_INFINITY));
        assert_eq!(from.log_q, f64::NEG_INFINITY);
        assert!((of_p + from.log_p - 2f64.ln()).abs() < 1e-15);
    }
}
