// Divergences as sums over the vocabulary.
//
// A divergence is D(p, q) = sum_v f(p_v, q_v) of the student from the teacher; its gradient at an entry
// is p_v (u_v - sum_w p_w u_w) with u_v = dD/dp_v. Where the student is nearly certain that is a
// difference of nearly equal numbers; a constant taken off every u_v cancels in it, so each measure
// takes off the u of an anchor, the likeliest entry's log q - log p, in a form that keeps the digits of
// the difference.
#pragma once

#include "number.cuh"

template <class A> struct Entry {
  A p, log_p, q, log_q;
  // log p - log q, but for a constant of the row.
  A apart;
};

// f(p_v, q_v), and p_v (u_v - u_anchor).
template <class A> struct Terms {
  A value, pull;
};

// 0 where the weight is 0 though the distance be infinite.
template <class A> INLINE A weighted_by(A weight, A distance) {
  return weight == 0 ? 0 : weight * distance;
}

// exp(x) - 1, given exp(x).
template <class A> INLINE A exp_less_one(A x, A exp) {
  A series = 1;
#pragma unroll
  for (int n = 12; n >= 2; n--) series = 1 + series * x * (A)(1.0 / n);
  return x < (A)0.3 && x > (A)-0.3 ? series * x : exp - 1;
}

// KL(q || p); p u = -q without a division, and no anchor, for the gradient's difference is p - q.
template <class A> struct ForwardKl {
  static const int PACKS = 2;

  INLINE A pull(Entry<A> e) const { return -e.q; }
};

// KL(p || q); the anchor is the centre of `PairStats`.
template <class A> struct ReverseKl {
  static const int PACKS = 2;
  A centre;

  INLINE A pull(Entry<A> e) const { return weighted_by(e.p, e.apart - centre); }
};

// m = beta q + (1 - beta) p, seen from the anchor.
template <class A> struct Mixture {
  A beta, anchor;
  // Shares of q and p in m at the anchor, and log(p / m) and log(q / m) there.
  A share_q, share_p, of_p, of_q;

  INLINE Mixture(double beta_, A anchor_) {
    // Any anchor is right; a share of q that f32 cannot hold would be useless.
    double a = larger((double)anchor_, -80.0 - log(beta_));
    double part_q = beta_ * exp(a), part_p = 1 - beta_, m = part_q + part_p;
    beta = (A)beta_;
    anchor = (A)a;
    share_q = (A)(part_q / m);
    share_p = (A)(part_p / m);
    of_p = (A)-log(m);
    of_q = (A)(a - log(m));
  }

  // log(p / m) and log(q / m), less the anchor's. log m/p grows from the anchor by
  // log(share_p + share_q exp(step)): of the three forms of it each is used where it loses nothing.
  INLINE void ratios(Entry<A> e, A &log_p, A &log_q) const {
    A step = (e.log_q - e.log_p) - anchor;
    A grown = exp_of(step);
    A x = share_q * exp_less_one(step, grown);
    bool falls = x < (A)-0.5, leaps = x > 1;
    A sum = leaps ? share_q + share_p / grown : 1 + x;
    sum = falls ? share_p + share_q * grown : sum;
    A log = log_of(sum);
    // The quotient puts back what 1 + x rounded away.
    A near = sum == 1 ? x : log * (x / (sum - 1));
    A log_m = falls ? log : near;
    log_m = leaps ? step + log : log_m;
    log_p = -log_m;
    log_q = leaps ? -log : step - log_m;
  }
};

// beta KL(q || m) + (1 - beta) KL(p || m).
template <class A> struct Jsd {
  static const int PACKS = 1;
  Mixture<A> m;

  INLINE A pull(Entry<A> e) const { return terms(e).pull; }

  INLINE Terms<A> terms(Entry<A> e) const {
    A log_p, log_q, rest = 1 - m.beta;
    m.ratios(e, log_p, log_q);
    A teacher = m.beta * weighted_by(e.q, m.of_q + log_q);
    A student = rest * weighted_by(e.p, m.of_p + log_p);
    return {teacher + student, weighted_by(e.p, rest * log_p)};
  }
};

// KL(q || m), m = alpha q + (1 - alpha) p; u = -(1 - alpha) q / m.
template <class A> struct SkewForwardKl {
  static const int PACKS = 1;
  Mixture<A> m;

  INLINE A pull(Entry<A> e) const { return terms(e).pull; }

  INLINE Terms<A> terms(Entry<A> e) const {
    A log_p, log_q;
    m.ratios(e, log_p, log_q);
    A u = (m.beta - 1) * exp_of(m.of_q) * exp_less_one(log_q, exp_of(log_q));
    return {weighted_by(e.q, m.of_q + log_q), weighted_by(e.p, u)};
  }
};

// KL(p || m), m = alpha p + (1 - alpha) q; u = log(p / m) - alpha p / m.
template <class A> struct SkewReverseKl {
  static const int PACKS = 1;
  Mixture<A> m;

  INLINE A pull(Entry<A> e) const { return terms(e).pull; }

  INLINE Terms<A> terms(Entry<A> e) const {
    A log_p, log_q;
    m.ratios(e, log_p, log_q);
    A u = log_p - m.share_p * exp_less_one(log_p, exp_of(log_p));
    return {weighted_by(e.p, m.of_p + log_p), weighted_by(e.p, u)};
  }
};

// sum_v |p_v - q_v| / 2; u = sign(p - q) / 2, 0 where they are equal.
template <class A> struct TotalVariation {
  static const int PACKS = 2;

  INLINE A pull(Entry<A> e) const { return terms(e).pull; }

  INLINE Terms<A> terms(Entry<A> e) const {
    A u = e.p > e.q ? (A)0.5 : e.p < e.q ? (A)-0.5 : (A)0;
    return {(e.p - e.q) * u, e.p * u};
  }
};
