// Divergences between rows of student and teacher logits, and their gradients: one block for each row.
//
// Statistics are [10, T] in f32: divergence, student entropy, log-probs of the id under both; then what
// the backward reads: maximum and log-sum of both, anchor, sum_v p_v (u_v - u_anchor). The anchor of the
// reverse KL is the centre of `PairStats`; that of the others log q - log p of the likeliest entry.
#include "include/measure.cuh"
#include "include/pair_stats.cuh"

// Threads of a block at most; as on the host's side of the launch.
#define THREADS 256

// Numbers of the measures; as on the host's side of the launch.
enum Kind { FORWARD_KL, REVERSE_KL, JSD, SKEW_FORWARD_KL, SKEW_REVERSE_KL, TOTAL_VARIATION };

// Calls `work` with the measure of a kind that needs both log-sums before its sum, seen from an anchor.
template <class A, class F> INLINE void with_mixture(i64 kind, double beta, A anchor, F work) {
  switch (kind) {
    case JSD: return work(Jsd<A>{Mixture<A>(beta, anchor)});
    case SKEW_FORWARD_KL: return work(SkewForwardKl<A>{Mixture<A>(beta, anchor)});
    case SKEW_REVERSE_KL: return work(SkewReverseKl<A>{Mixture<A>(beta, anchor)});
    case TOTAL_VARIATION: return work(TotalVariation<A>{});
    default: return;
  }
}

template <class A, class F> INLINE void with_measure(i64 kind, double beta, A anchor, F work) {
  switch (kind) {
    case FORWARD_KL: return work(ForwardKl<A>{});
    case REVERSE_KL: return work(ReverseKl<A>{anchor});
    default: return with_mixture(kind, beta, anchor, work);
  }
}

// What turns two logits into probabilities and log-probs.
template <class A> struct Pair {
  A inverse, binary, max_p, sum_p, max_q, sum_q, scale_p, scale_q;

  INLINE Pair(A max_p_, A sum_p_, A max_q_, A sum_q_, double temperature)
      : inverse((A)(1 / temperature)), binary((A)(1.4426950408889634 / temperature)), max_p(max_p_),
        sum_p(sum_p_), max_q(max_q_), sum_q(sum_q_), scale_p((A)exp(-(double)sum_p_)),
        scale_q((A)exp(-(double)sum_q_)) {}

  INLINE Entry<A> entry(A x, A y) const {
    A dp = x - max_p, dq = y - max_q;
    return {exp2_of(dp * binary) * scale_p, dp * inverse - sum_p, exp2_of(dq * binary) * scale_q,
            dq * inverse - sum_q, apart(dp, dq, inverse)};
  }
};

template <class T>
INLINE void divergence_forward(const T *student, const T *teacher, const unsigned *ids, acc<T> *out,
                               i64 rows, i64 width, double temperature, i64 kind, double beta) {
  typedef acc<T> A;
  i64 row = blockIdx.x;
  const T *x = student + row * width, *y = teacher + row * width;
  bool turned = kind == FORWARD_KL;
  PairStats both = pair_stats(turned ? y : x, turned ? x : y, width, temperature);
  RowStats p = turned ? both.b : both.a, q = turned ? both.a : both.b;
  double value = both.kl, pull = turned ? -1 : both.mean, anchor = both.centre;
  if (kind != FORWARD_KL && kind != REVERSE_KL) {
    anchor = (p.log_sum - q.log_sum) - both.centre;
    if (!(fabs(anchor) < infinity())) anchor = 0;
    value = pull = 0;
    Pair<A> pair((A)p.max, (A)p.log_sum, (A)q.max, (A)q.log_sum, temperature);
    with_mixture(kind, beta, (A)anchor, [&](auto measure) {
      sum_pairs(x, y, width, value, pull, [&](A x, A y) { return measure.terms(pair.entry(x, y)); });
    });
    value = block_sum(value);
    pull = block_sum(pull);
    // NaN in either model's logits gives no order, and so no distance: it must not read 0.
    double poison = p.log_sum + q.log_sum;
    if (poison != poison) value = not_a_number();
  }
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
    map_pairs<decltype(measure)::PACKS>(x, y, target, width, id, [&](A x, A y, bool of_id) {
      Entry<A> e = pair.entry(x, y);
      A rest = e.p * ((of_id ? own_constant : constant) - slope * e.log_p);
      if (e.p == 0) rest = 0;
      A g = value * (measure.pull(e) - e.p * mean) + rest;
      return of_id ? g + own : g;
    });
  });
}

#define FORWARD(dtype, T)                                                                         \
  KERNEL __launch_bounds__(THREADS, 2) divergence_forward_##dtype(                                   \
      const T *student, const T *teacher, const unsigned *ids, acc<T> *out, i64 rows, i64 width,  \
      double temperature, i64 kind, double beta) {                                                \
    divergence_forward<T>(student, teacher, ids, out, rows, width, temperature, kind, beta);      \
  }                                                                                               \
  EXPORT(divergence_forward_##dtype)

#define BACKWARD(name, T, G)                                                                      \
  KERNEL __launch_bounds__(THREADS, 2) divergence_backward_##name(                                   \
      const T *student, const T *teacher, const unsigned *ids, const acc<T> *saved,               \
      const acc<T> *upstream, G *out, i64 rows, i64 width, double temperature, i64 kind,          \
      double beta) {                                                                              \
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
