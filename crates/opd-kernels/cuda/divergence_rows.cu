// Divergences between rows of student and teacher logits, and their gradients: one block for each row.
//
// Statistics are [10, T] in f32: divergence, student entropy, log-probs of the id under both; then what
// the backward reads: maximum and log-sum of both, anchor, sum_v p_v (u_v - u_anchor).
#include "include/measure.cuh"
#include "include/row_stats.cuh"

// Numbers of the measures; as on the host's side of the launch.
enum Kind { FORWARD_KL, REVERSE_KL, JSD, SKEW_FORWARD_KL, SKEW_REVERSE_KL, TOTAL_VARIATION };

// Calls `work` with the measure of a kind, seen from an anchor.
template <class A, class F> INLINE void with_measure(i64 kind, double beta, A anchor, F work) {
  switch (kind) {
    case FORWARD_KL: return work(ForwardKl<A>{});
    case REVERSE_KL: return work(ReverseKl<A>{anchor});
    case JSD: return work(Jsd<A>{Mixture<A>(beta, anchor)});
    case SKEW_FORWARD_KL: return work(SkewForwardKl<A>{Mixture<A>(beta, anchor)});
    case SKEW_REVERSE_KL: return work(SkewReverseKl<A>{Mixture<A>(beta, anchor)});
    default: return work(TotalVariation<A>{});
  }
}

// What turns two logits into probabilities and log-probs.
template <class A> struct Pair {
  A inverse, max_p, sum_p, max_q, sum_q, scale_p, scale_q;

  INLINE Pair(A max_p_, A sum_p_, A max_q_, A sum_q_, double temperature)
      : inverse((A)(1 / temperature)), max_p(max_p_), sum_p(sum_p_), max_q(max_q_), sum_q(sum_q_),
        scale_p((A)exp(-(double)sum_p_)), scale_q((A)exp(-(double)sum_q_)) {}

  INLINE Entry<A> entry(A x, A y) const {
    A dp = (x - max_p) * inverse, dq = (y - max_q) * inverse;
    return {exp_of(dp) * scale_p, dp - sum_p, exp_of(dq) * scale_q, dq - sum_q};
  }
};

template <class T>
INLINE void divergence_forward(const T *student, const T *teacher, const unsigned *ids, acc<T> *out,
                               i64 rows, i64 width, double temperature, i64 kind, double beta) {
  typedef acc<T> A;
  i64 row = blockIdx.x;
  const T *x = student + row * width, *y = teacher + row * width;
  RowStats p = row_stats(x, width, temperature), q = row_stats(y, width, temperature);
  Pair<A> pair((A)p.max, (A)p.log_sum, (A)q.max, (A)q.log_sum, temperature);
  unsigned first = ~0u;
  for (i64 i = threadIdx.x; i < width && first == ~0u; i += blockDim.x)
    if (widen(x[i]) == pair.max_p) first = (unsigned)i;
  first = block_least(first);
  i64 likeliest = first == ~0u ? 0 : first;
  Entry<A> top = pair.entry(widen(x[likeliest]), widen(y[likeliest]));
  A anchor = top.log_q - top.log_p;
  if (!(fabs((double)anchor) < infinity())) anchor = 0;
  double value = 0, pull = 0;
  with_measure(kind, beta, anchor, [&](auto measure) {
    for (i64 start = threadIdx.x; start < width; start += 16 * (i64)blockDim.x) {
      A values = 0, pulls = 0;
#pragma unroll 4
      for (int k = 0; k < 16; k++) {
        i64 i = start + k * (i64)blockDim.x;
        if (i >= width) break;
        Terms<A> terms = measure.terms(pair.entry(widen(x[i]), widen(y[i])));
        values += terms.value;
        pulls += terms.pull;
      }
      value += values;
      pull += pulls;
    }
  });
  value = block_sum(value);
  pull = block_sum(pull);
  // NaN in either model's logits gives no order, and so no distance: it must not read 0.
  double poison = p.log_sum + q.log_sum;
  if (kind == TOTAL_VARIATION && poison != poison) value = not_a_number();
  if (threadIdx.x == 0) {
    unsigned id = ids[row];
    double nan = not_a_number();
    double of_p = id < width ? p.log_prob(widen(x[id]), temperature) : nan;
    double of_q = id < width ? q.log_prob(widen(y[id]), temperature) : nan;
    double all[10] = {value, p.entropy, of_p, of_q, p.max, p.log_sum, q.max, q.log_sum, anchor, pull};
    for (int k = 0; k < 10; k++) out[k * rows + row] = (A)all[k];
  }
}

// value (p_v (u_v - u_anchor) - p_v mean) + p_v (constant - slope log p_v)
//
// `out` may be `student`.
template <class T, class G>
INLINE void divergence_backward(const T *student, const T *teacher, const unsigned *ids,
                                const acc<T> *saved, const acc<T> *upstream, G *out, i64 rows,
                                i64 width, double temperature, i64 kind, double beta) {
  typedef acc<T> A;
  i64 row = blockIdx.x;
  const T *x = student + row * width, *y = teacher + row * width;
  G *target = out + row * width;
  double g_value = upstream[row], g_entropy = upstream[rows + row], g_logp = upstream[2 * rows + row];
  if (g_value == 0 && g_entropy == 0 && g_logp == 0) {
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) target[i] = narrow<G>(0);
    return;
  }
  auto of = [&](int k) { return saved[k * rows + row]; };
  Pair<A> pair(of(4), of(5), of(6), of(7), temperature);
  A mean = of(9);
  double per = 1 / temperature, entropy = of(1), log_prob = of(2);
  A value = (A)(per * g_value), slope = (A)(per * g_entropy);
  A constant = (A)(-per * (g_entropy * entropy + g_logp));
  // 1 - p from the log-prob: no cancellation where the token is nearly certain.
  A own_constant = (A)(-per * g_entropy * entropy);
  A own = g_logp == 0 ? 0 : (A)(-per * g_logp * expm1(log_prob));
  i64 id = g_logp == 0 ? -1 : (i64)ids[row];
  with_measure(kind, beta, of(8), [&](auto measure) {
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
      Entry<A> e = pair.entry(widen(x[i]), widen(y[i]));
      A rest = e.p * ((i == id ? own_constant : constant) - slope * e.log_p);
      if (e.p == 0) rest = 0;
      A g = value * (measure.terms(e).pull - e.p * mean) + rest;
      target[i] = narrow<G>(i == id ? g + own : g);
    }
  });
}

#define FORWARD(dtype, T)                                                                         \
  KERNEL divergence_forward_##dtype(const T *student, const T *teacher, const unsigned *ids,      \
                                    acc<T> *out, i64 rows, i64 width, double temperature,         \
                                    i64 kind, double beta) {                                      \
    divergence_forward<T>(student, teacher, ids, out, rows, width, temperature, kind, beta);      \
  }                                                                                               \
  EXPORT(divergence_forward_##dtype)

#define BACKWARD(name, T, G)                                                                      \
  KERNEL divergence_backward_##name(const T *student, const T *teacher, const unsigned *ids,      \
                                    const acc<T> *saved, const acc<T> *upstream, G *out,          \
                                    i64 rows, i64 width, double temperature, i64 kind,            \
                                    double beta) {                                                \
    divergence_backward<T, G>(student, teacher, ids, saved, upstream, out, rows, width,           \
                              temperature, kind, beta);                                           \
  }                                                                                               \
  EXPORT(divergence_backward_##name)

#define BACKWARD_OF(dtype, T) BACKWARD(dtype, T, T)

FOR_DTYPES(FORWARD)
FOR_DTYPES(BACKWARD_OF)
// Gradients of f32 products of tensors of half the size.
BACKWARD(f32_bf16, float, bf16)
BACKWARD(f32_f16, float, f16)
#undef FORWARD
#undef BACKWARD
#undef BACKWARD_OF
