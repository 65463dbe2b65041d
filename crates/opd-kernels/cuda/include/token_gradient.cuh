// What is said of a row of logits whose token is known, and its gradient.
//
// Statistics are rows of [5, T] in f32: log-prob, log-sum-exp, entropy; then what the backward reads:
// maximum, log-sum. Log-probs of further ids follow as more rows.
#pragma once

#include "row_stats.cuh"

#define STATISTICS 5

// Of the row of this block, by its first thread.
template <class T, class C>
INLINE void write_statistics(const RowStats &stats, const T *values, unsigned id, acc<T> *out, i64 rows,
                             i64 width, double temperature, C cap) {
  if (threadIdx.x != 0) return;
  i64 row = blockIdx.x;
  double logit = id < width ? (double)cap.value(widen(values[id])) : not_a_number();
  out[row] = (acc<T>)stats.log_prob(logit, temperature);
  out[rows + row] = (acc<T>)(stats.max / temperature + stats.log_sum);
  out[2 * rows + row] = (acc<T>)stats.entropy;
  out[3 * rows + row] = (acc<T>)stats.max;
  out[4 * rows + row] = (acc<T>)stats.log_sum;
}

// The gradient of an id's logit, but for the cap: `pull` is the sum of the gradients of log-probs of this
// id, `others` of all others; `per` is 1 over the temperature.
INLINE double gradient_of_id(double log_prob, double pull, double others, double g_lse,
                             double g_entropy, double entropy, double per) {
  double p = exp(log_prob), curve = p == 0 ? 0 : g_entropy * p * (log_prob + entropy);
  // 1 - p from the log-prob: no cancellation where the token is nearly certain.
  return per * (-pull * expm1(log_prob) - others * p + g_lse * p - curve);
}

// What the gradients of a row's logits have in common: p_v (constant - slope log p_v) but for the cap.
template <class A> struct RowGradient {
  A max, inverse, shift, scale, constant, slope;

  template <class C> INLINE A of(A x, C cap) const {
    A d = (cap.value(x) - max) * inverse;
    A p = exp_of(d) * scale;
    A g = p * (constant - slope * (d - shift)) * cap.slope(x);
    return p == 0 ? 0 : g;
  }
};

// `total` is the sum of the gradients of log-probs of any ids.
template <class A>
INLINE RowGradient<A> row_gradient(A max, double log_sum, double entropy, double total, double g_lse,
                                   double g_entropy, double per) {
  double constant = per * (g_lse - total - g_entropy * entropy);
  return {max, (A)per, (A)log_sum, (A)exp(-log_sum), (A)constant, (A)(per * g_entropy)};
}

// target[v] = gradient(values[v], v); `target` may be `values`.
template <class T, class G, class F>
INLINE void write_gradients(const T *values, G *target, i64 width, F gradient) {
  const int SIZE = Pack<T>::SIZE;
  i64 head = head_of(values, width), packs = 0;
  bool aligned = sizeof(T) == sizeof(G) && head_of(target, width) == head;
  if (aligned) packs = (width - head) / SIZE;
  for (i64 k = threadIdx.x; k < packs; k += blockDim.x) {
    i64 at = head + k * SIZE;
    Pack<T> pack = load_pack(values + at);
    Pack<G> result;
    for (int i = 0; i < SIZE; i++)
      result.values[i % Pack<G>::SIZE] = narrow<G>(gradient(widen(pack.values[i]), at + i));
    store_pack(target + at, result);
  }
  i64 tail = head + packs * SIZE, rest = head + width - tail;
  for (i64 i = threadIdx.x; i < rest; i += blockDim.x) {
    i64 at = i < head ? i : tail + i - head;
    target[at] = narrow<G>(gradient(widen(values[at]), at));
  }
}
