// All that is asked of rows of logits, and the gradients: one block for each row.
//
// Statistics as in include/token_gradient.cuh, with the entropy; then log-probs of named ids and of the
// likeliest, [k, T]. Ids are [T, k].
#include "include/likeliest.cuh"
#include "include/token_gradient.cuh"

// Most further ids of a row; as on the host's side of the launch.
#define MOST_IDS 1024

template <class T, class C>
INLINE void score_rows_forward(const T *logits, const unsigned *ids, const unsigned *named,
                               acc<T> *out, unsigned *found, i64 rows, i64 width, i64 n_named,
                               i64 n_found, double temperature, C cap) {
  typedef acc<T> A;
  i64 row = blockIdx.x;
  const T *values = logits + row * width;
  Shortlist<A> list;
  RowStats stats = row_stats<T, true>(values, width, temperature, cap, [&](A x, i64 at) {
    if (n_found > 0) list.offer(candidate(x, at));
  });
  write_statistics(stats, values, ids[row], out, rows, width, temperature, cap);
  acc<T> *further = out + STATISTICS * rows + row;
  auto log_prob = [&](A x) { return (A)stats.log_prob(cap.value(x), temperature); };
  for (i64 i = threadIdx.x; i < n_named; i += blockDim.x)
    further[i * rows] = log_prob(widen(values[named[row * n_named + i]]));
  for_likeliest(values, width, n_found, list, [&](i64 j, Candidate<A> one) {
    if (threadIdx.x != 0) return;
    found[row * n_found + j] = one.id;
    further[(n_named + j) * rows] = log_prob(one.value);
  });
}

// dz_v = sum_k g_k (1[v = id_k] - p_v) + g_lse p_v - g_entropy p_v (log p_v + entropy)
// dx_v = dz_v cap'(x_v) / temperature
//
// `k` goes over the token and further ids, which may repeat. `out` may be `logits`.
template <class T, class G, class C>
INLINE void score_rows_backward(const T *logits, const unsigned *ids, const unsigned *further,
                                const acc<T> *saved, const acc<T> *upstream, G *out, i64 rows,
                                i64 width, i64 k, double temperature, C cap) {
  typedef acc<T> A;
  __shared__ RowGradient<A> shared;
  // Of each id, made before anything is written; of a further id without a gradient nothing is.
  __shared__ A own[1 + MOST_IDS];
  __shared__ bool pulls[1 + MOST_IDS];
  i64 row = blockIdx.x;
  const T *values = logits + row * width;
  G *target = out + row * width;
  // The token is number 0.
  auto id_of = [&](i64 i) { return i == 0 ? ids[row] : further[row * k + i - 1]; };
  auto place_of = [&](i64 i) { return (i == 0 ? 0 : STATISTICS + i - 1) * rows + row; };
  double g_lse = upstream[rows + row], g_entropy = upstream[2 * rows + row], total = 0;
  bool none = g_lse == 0 && g_entropy == 0;
  for (i64 i = 0; i <= k; i++) {
    double g = upstream[place_of(i)];
    total += g;
    none = none && g == 0;
  }
  if (none) {
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) target[i] = narrow<G>(0);
    return;
  }
  double entropy = saved[2 * rows + row], log_sum = saved[4 * rows + row], per = 1 / temperature;
  if (threadIdx.x == 0)
    shared = row_gradient<A>(saved[3 * rows + row], log_sum, entropy, total, g_lse, g_entropy,
                             per);
  for (i64 i = threadIdx.x; i <= k; i += blockDim.x) {
    unsigned id = id_of(i);
    double pull = 0, others = 0;
    for (i64 j = 0; j <= k; j++) {
      double g = upstream[place_of(j)];
      if (id_of(j) == id) pull += g;
      else others += g;
    }
    double of_id = gradient_of_id(saved[place_of(i)], pull, others, g_lse, g_entropy, entropy, per);
    own[i] = (A)of_id * cap.slope(widen(values[id]));
    pulls[i] = i == 0 || pull != 0;
  }
  __syncthreads();
  RowGradient<A> common = shared;
  write_gradients<T, G>(values, target, width, [&](A x, i64) { return common.of(x, cap); });
  __syncthreads();
  for (i64 i = threadIdx.x; i <= k; i += blockDim.x)
    if (pulls[i]) target[id_of(i)] = narrow<G>(own[i]);
}

#define FORWARD(dtype, T)                                                                            \
  KERNEL __launch_bounds__(512, 2)                                                                   \
  score_rows_forward_##dtype(const T *logits, const unsigned *ids, const unsigned *named,            \
                             acc<T> *out, unsigned *found, i64 rows, i64 width, i64 n_named,         \
                             i64 n_found, double temperature, double cap) {                          \
    with_cap<acc<T>>(cap, [&](auto soft) {                                                           \
      score_rows_forward<T>(logits, ids, named, out, found, rows, width, n_named, n_found,           \
                            temperature, soft);                                                      \
    });                                                                                              \
  }                                                                                                  \
  EXPORT(score_rows_forward_##dtype)

#define BACKWARD(name, T, G)                                                                         \
  KERNEL __launch_bounds__(512, 2)                                                                   \
  score_rows_backward_##name(const T *logits, const unsigned *ids, const unsigned *further,          \
                             const acc<T> *saved, const acc<T> *upstream, G *out, i64 rows,          \
                             i64 width, i64 k, double temperature, double cap) {                     \
    with_cap<acc<T>>(cap, [&](auto soft) {                                                           \
      score_rows_backward<T, G>(logits, ids, further, saved, upstream, out, rows, width, k,          \
                                temperature, soft);                                                  \
    });                                                                                              \
  }                                                                                                  \
  EXPORT(score_rows_backward_##name)

#define BACKWARD_OF(dtype, T) BACKWARD(dtype, T, T)

FOR_DTYPES(FORWARD)
FOR_DTYPES(BACKWARD_OF)
// Gradients of f32 products of tensors of half the size.
BACKWARD(f32_bf16, float, bf16)
BACKWARD(f32_f16, float, f16)
#undef FORWARD
#undef BACKWARD
#undef BACKWARD_OF
