// One pass over two rows of logits by a block: what both softmaxes need, and KL(a || b).
//
// With d_v = (a_v - b_v) / temperature and delta_v = d_v - centre,
//
//   KL(a || b) = E_a[d] + log E_a[exp(-d)] = G - h(G - M)
//   M = E_a[delta],  G = E_a[exp(-delta) - 1 + delta],  h(u) = u - log(1 + u)
//
// for any centre; the sums move from one centre to another without a second look at the values, as they do
// from one maximum to another. G and h are of the second order, so the KL of rows that nearly agree keeps
// its digits. Where some delta is beyond REACH the KL is M + centre + lse_b - lse_a.
#pragma once

#include "pairs.cuh"

// Largest delta for which the series of G is used.
#define REACH 0.5

INLINE float exp2_of(float x) {
#ifdef OPD_ON_HOST
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}
INLINE double exp2_of(double x) { return exp2(x); }
INLINE float size_of(float x) { return fabsf(x); }
INLINE double size_of(double x) { return fabs(x); }

// Long code for few calls.
OUTLINE double exp_apart(double x) { return exp(x); }
OUTLINE double expm1_apart(double x) { return expm1(x); }

// Terms of a series that the type can tell from their sum.
template <class A> struct Series {
  static const int LAST = 6;
};
template <> struct Series<double> {
  static const int LAST = 16;
};

// (exp(-x) - 1 + x) / x^2 for |x| up to REACH.
template <class A> INLINE A curvature(A x) {
  constexpr double FACTORIALS[] = {1,       1,        2,         6,          24,          120,
                                   720,     5040,     40320,     362880,     3628800,     39916800,
                                   4.790016e8, 6.2270208e9, 8.71782912e10, 1.307674368e12,
                                   2.0922789888e13};
  A sum = 0;
#pragma unroll
  for (int n = Series<A>::LAST; n >= 2; n--)
    sum = sum * x + (A)((n % 2 ? -1 : 1) / FACTORIALS[n]);
  return sum;
}

struct PairStats {
  RowStats a, b;
  double kl;
  // ((a_v - max_a) - (b_v - max_b)) / temperature of a's likeliest entry, as `apart` computes it.
  double centre;
  // E_a[d] less the d of that entry; infinite with the KL.
  double mean;
};

// The difference of two logits over the temperature, in steps that a later sum is not fused with: it has
// the same bits wherever it is computed.
INLINE float apart(float da, float db, float inverse) {
#ifdef OPD_ON_HOST
  return (da - db) * inverse;
#else
  return __fmul_rn(da - db, inverse);
#endif
}
INLINE double apart(double da, double db, double inverse) { return (da - db) * inverse; }

// Sums over part of two rows.
template <class A> struct PairSums {
  // Largest values, and b's where a's is largest.
  A max_a, max_b, partner;
  double ties_a, rest_a, weighted_a, ties_b, rest_b, weighted_b;
  // 1 / temperature, as tiles round it.
  double per;
  double centre, drift, curve;
  // Largest |delta|, and a's largest value where b excludes it.
  A reach, beyond;
  // The centre less both maxima, as `tile` takes it off.
  A from;

  INLINE explicit PairSums(A per_) : per(per_) {
    max_a = max_b = partner = beyond = (A)-infinity();
    ties_a = rest_a = weighted_a = ties_b = rest_b = weighted_b = 0;
    centre = drift = curve = 0;
    reach = from = 0;
  }

  // By how much exponentials shrink.
  static INLINE double lower(A &max, A to, double per, double &ties, double &rest, double &weighted) {
    double total = ties + rest, factor = 1;
    if (total != 0) {
      double shift = ((double)max - (double)to) * per;
      factor = exp_apart(shift);
      weighted = factor > 0 ? (weighted + total * shift) * factor : 0;
      rest = total * factor;
      ties = 0;
    }
    max = to;
    return factor;
  }

  INLINE void raise_a(A to) {
    double factor = lower(max_a, to, per, ties_a, rest_a, weighted_a);
    drift *= factor;
    curve *= factor;
  }

  INLINE void raise_b(A to) { lower(max_b, to, per, ties_b, rest_b, weighted_b); }

  INLINE void move_centre(double to) {
    double step = centre - to, total = ties_a + rest_a;
    if (total != 0 && step != 0) {
      double less = expm1_apart(-step);
      curve = (less + 1) * curve - less * drift + (less + step) * total;
      drift += total * step;
      // Beyond this the curve has lost its digits.
      if (!(fabs(step) <= 1)) reach = (A)infinity();
    }
    centre = to;
  }

  // Makes the centre one that `from` has.
  INLINE void settle() {
    double shift = ((double)max_a - (double)max_b) * per;
    if (!(fabs(shift) < infinity())) return;
    from = (A)(centre - shift);
    move_centre(shift + from);
  }

  // Takes in any two values.
  INLINE void add(A x, A y) {
    const A LIMIT = (A)infinity();
    if (!(x < LIMIT)) rest_a = not_a_number();
    if (!(y < LIMIT)) rest_b = not_a_number();
    bool has_a = x < LIMIT && x > -LIMIT, has_b = y < LIMIT && y > -LIMIT;
    if (has_b) {
      if (y > max_b) raise_b(y);
      double d = ((double)y - (double)max_b) * per, e = exp_apart(d);
      if (y == max_b) ties_b += 1;
      else rest_b += e;
      weighted_b += e == 0 ? 0 : e * d;
    }
    if (!has_a) {
      if (has_b) reach = LIMIT;
      return;
    }
    double between = ((double)x - (double)y) * per;
    if (x > max_a) {
      raise_a(x);
      partner = y;
      if (has_b) move_centre(between);
    }
    double d = ((double)x - (double)max_a) * per, e = exp_apart(d), delta = between - centre;
    if (x == max_a) ties_a += 1;
    else rest_a += e;
    weighted_a += e == 0 ? 0 : e * d;
    if (y == -LIMIT) beyond = larger(beyond, x);
    if (!has_b) {
      reach = LIMIT;
      return;
    }
    drift += e * delta;
    if (fabs(delta) <= REACH) curve += e * (delta * delta * curvature(delta));
    reach = larger(reach, (A)fabs(delta));
  }

  // Takes in values of packs of both rows, if all are finite and none is above the maxima. Without FULL, for
  // rows whose curve does not matter, also if none is equal to a maximum.
  template <class T, bool FULL, int PACKS>
  INLINE bool tile(const Quad (&a)[PACKS], const Quad (&b)[PACKS]) {
    A inverse = (A)per, scale = (A)(per * 1.4426950408889634);
    A others_a = 0, products_a = 0, others_b = 0, products_b = 0, drifts = 0, curves = 0;
    A top = (A)-infinity(), widest = 0;
    int equal_a = 0, equal_b = 0;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
#pragma unroll
      for (int i = 0; i < Pack<T>::SIZE; i++) {
        A da = value_of<T>(a[k], i) - max_a, db = value_of<T>(b[k], i) - max_b;
        A za = da * scale, zb = db * scale, ea = exp2_of(za), eb = exp2_of(zb);
        top = larger(top, larger(za, zb));
        if (FULL) {
          equal_a += za == 0;
          equal_b += zb == 0;
        }
        others_a += FULL && za == 0 ? 0 : ea;
        others_b += FULL && zb == 0 ? 0 : eb;
        products_a += ea * za;
        products_b += eb * zb;
        A delta = (da - db) * inverse - from, part = ea * delta;
        drifts += part;
        widest = larger(widest, size_of(delta));
        if (FULL) curves += part * (delta * curvature(delta));
      }
    }
    // What is infinite or NaN makes the drift so.
    if (!(FULL ? top <= 0 : top < 0) || !(drifts - drifts == 0)) return false;
    if (FULL) {
      ties_a += equal_a;
      ties_b += equal_b;
      curve += curves;
    }
    rest_a += others_a;
    rest_b += others_b;
    weighted_a += 0.6931471805599453 * (double)products_a;
    weighted_b += 0.6931471805599453 * (double)products_b;
    drift += drifts;
    reach = larger(reach, widest);
    return true;
  }

  // Statistics of the whole rows in every thread.
  INLINE PairStats finish() {
    const A LIMIT = (A)infinity();
    A whole_a = block_largest(max_a), whole_b = block_largest(max_b);
    partner = block_largest(max_a == whole_a ? partner : -LIMIT);
    if (max_a != whole_a) raise_a(whole_a);
    if (max_b != whole_b) raise_b(whole_b);
    double shift = ((double)max_a - (double)max_b) * per;
    double near = ((double)max_b - (double)partner) * per;
    bool partnered = fabs(near) < infinity();
    if (!partnered) near = 0;
    if (fabs(shift) < infinity()) move_centre(shift + near);
    double sums[] = {ties_a, rest_a, weighted_a, ties_b, rest_b, weighted_b, drift, curve};
#pragma unroll
    for (int i = 0; i < 8; i++) sums[i] = block_sum(sums[i]);
    bool close = block_largest(reach) <= (A)REACH;
    beyond = block_largest(beyond);
    PairStats stats;
    stats.a = row(max_a, sums[0], sums[1], sums[2]);
    stats.b = row(max_b, sums[3], sums[4], sums[5]);
    stats.centre = partnered ? (double)apart((A)0, partner - max_b, (A)per) : 0;
    double total = sums[0] + sums[1], m = sums[6] / total, g = sums[7] / total, u = g - m;
    double between = stats.b.log_sum - stats.a.log_sum;
    stats.mean = m;
    stats.kl = close ? g - (u - log1p(u)) : m + near + between;
    // A probability that the type holds, of what b excludes.
    if ((A)exp_apart(((double)beyond - (double)max_a) * per - stats.a.log_sum) > 0)
      stats.kl = stats.mean = infinity();
    if (between != between) stats.kl = stats.mean = not_a_number();
    return stats;
  }

  static INLINE RowStats row(A max, double ties, double rest, double weighted) {
    double nan = not_a_number();
    if (ties == 0) return RowStats{nan, nan, nan};
    double log_sum = log1p(ties - 1 + rest);
    return RowStats{(double)max, log_sum, log_sum - weighted / (ties + rest)};
  }
};

// Gives every thread of the block the maxima of all their first packs, so that few meet a larger one, and
// the centre that belongs to them.
template <class T>
INLINE void start(PairSums<acc<T>> &sums, const Quad &a, const Quad &b, bool has) {
  typedef acc<T> A;
  const A LIMIT = (A)infinity();
  A top_a = -LIMIT, top_b = -LIMIT, partner = -LIMIT;
#pragma unroll
  for (int i = 0; i < Pack<T>::SIZE; i++) {
    if (has) {
      top_a = larger(top_a, value_of<T>(a, i));
      top_b = larger(top_b, value_of<T>(b, i));
    }
  }
  top_a = block_largest(top_a);
  top_b = block_largest(top_b);
#pragma unroll
  for (int i = 0; i < Pack<T>::SIZE; i++)
    if (has && value_of<T>(a, i) == top_a) partner = larger(partner, value_of<T>(b, i));
  partner = block_largest(partner);
  if (!(top_a < LIMIT) || !(top_b < LIMIT)) return;
  sums.max_a = top_a;
  sums.max_b = top_b;
  sums.partner = partner;
  double centre = ((double)top_a - (double)partner) * sums.per;
  if (fabs(centre) < infinity()) sums.centre = centre;
  sums.settle();
}

// Statistics of two rows in every thread. One read of both.
template <class T>
INLINE PairStats pair_stats(const T *a, const T *b, i64 width, double temperature) {
  typedef acc<T> A;
  const int PACKS = 2;
  PairSums<A> sums((A)(1 / temperature));
  Packs packs(a, b, a, width);
  i64 thread = threadIdx.x, step = PACKS * (i64)blockDim.x;
  Quad ours[PACKS], theirs[PACKS];
  load_pairs(packs, a, b, thread, ours, theirs);
  start<T>(sums, ours[0], theirs[0], thread < packs.count);
  for (i64 first = thread; first < packs.count; first += step) {
    // Under way while the tile is added up.
    Quad next_ours[PACKS], next_theirs[PACKS];
    load_pairs(packs, a, b, first + step, next_ours, next_theirs);
    i64 last = first + step - blockDim.x;
    bool done = false;
    if (last < packs.count) {
      if (sums.reach > (A)REACH) done = sums.template tile<T, false>(ours, theirs);
      if (!done) done = sums.template tile<T, true>(ours, theirs);
    }
    if (!done) {
#pragma unroll 1
      for (i64 pack = first; pack < packs.count && pack <= last; pack += blockDim.x) {
#pragma unroll 1
        for (i64 at = packs.at(pack); at < packs.at(pack + 1); at++)
          sums.add(widen(a[at]), widen(b[at]));
      }
      sums.settle();
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      ours[k] = next_ours[k];
      theirs[k] = next_theirs[k];
    }
  }
#pragma unroll 1
  for (i64 i = thread; i < packs.rest; i += blockDim.x) {
    i64 at = packs.outside(i);
    sums.add(widen(a[at]), widen(b[at]));
  }
  return sums.finish();
}
