// Log-probs of several ids of each row's own, and their gradients: one block for each row.
//
// Statistics are [T, k + 3] in f32: the ids' log-probs, entropy, maximum, log-sum. Logits are f32 (f64 on
// the host): they are products.
#include "include/row_stats.cuh"

template <class T>
INLINE void support_forward(const T *logits, const unsigned *ids, acc<T> *out, i64 width, i64 k,
                            double temperature) {
  i64 row = blockIdx.x;
  const T *x = logits + row * width;
  RowStats stats = row_stats(x, width, temperature);
  acc<T> *to = out + row * (k + 3);
  for (i64 i = threadIdx.x; i < k; i += blockDim.x)
    to[i] = (acc<T>)stats.log_prob(widen(x[ids[row * k + i]]), temperature);
  if (threadIdx.x == 0) {
    to[k] = (acc<T>)stats.entropy;
    to[k + 1] = (acc<T>)stats.max;
    to[k + 2] = (acc<T>)stats.log_sum;
  }
}

// dx_v = (sum_k g_k (1[v = id_k] - p_v) - g_entropy p_v (log p_v + entropy)) / temperature
template <class T, class G>
INLINE void support_backward(const T *logits, const unsigned *ids, const acc<T> *saved,
                             const acc<T> *upstream, G *out, i64 width, i64 k, double temperature) {
  typedef acc<T> A;
  // Own values of up to 1,024 ids, read before anything is written: `out` may be `logits`.
  __shared__ A own[1024];
  i64 row = blockIdx.x;
  const T *x = logits + row * width;
  const unsigned *mine = ids + row * k;
  const acc<T> *g = upstream + row * (k + 3), *of = saved + row * (k + 3);
  G *target = out + row * width;
  double total = 0, g_entropy = g[k], per = 1 / temperature;
  bool none = g_entropy == 0;
  for (i64 i = 0; i < k; i++) {
    total += g[i];
    none = none && g[i] == 0;
  }
  if (none) {
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) target[i] = narrow<G>(0);
    return;
  }
  double entropy = of[k], max = of[k + 1], log_sum = of[k + 2];
  for (i64 i = threadIdx.x; i < k; i += blockDim.x) {
    double log_p = ((double)widen(x[mine[i]]) - max) * per - log_sum, p = exp(log_p);
    double curve = p == 0 ? 0 : p * (log_p + entropy), pull = 0;
    for (i64 j = 0; j < k; j++)
      if (mine[j] == mine[i]) pull += g[j];
    own[i] = (A)(per * (pull - total * p - g_entropy * curve));
  }
  __syncthreads();
  A inverse = (A)per, top = of[k + 1], shift = of[k + 2], scale = (A)exp(-log_sum);
  A constant = (A)(-per * (total + g_entropy * entropy)), slope = (A)(-per * g_entropy);
  for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
    A d = (widen(x[i]) - top) * inverse, p = exp_of(d) * scale;
    target[i] = narrow<G>(p == 0 ? 0 : p * (constant + slope * (d - shift)));
  }
  __syncthreads();
  for (i64 i = threadIdx.x; i < k; i += blockDim.x) target[mine[i]] = narrow<G>(own[i]);
}

#define FORWARD(dtype, T)                                                                         \
  KERNEL support_forward_##dtype(const T *logits, const unsigned *ids, acc<T> *out, i64 width,    \
                                 i64 k, double temperature) {                                     \
    support_forward<T>(logits, ids, out, width, k, temperature);                                  \
  }                                                                                               \
  EXPORT(support_forward_##dtype)

#define BACKWARD(name, T, G)                                                                      \
  KERNEL support_backward_##name(const T *logits, const unsigned *ids, const acc<T> *saved,       \
                                 const acc<T> *upstream, G *out, i64 width, i64 k,                \
                                 double temperature) {                                            \
    support_backward<T, G>(logits, ids, saved, upstream, out, width, k, temperature);             \
  }                                                                                               \
  EXPORT(support_backward_##name)

FORWARD(f32, float)
BACKWARD(f32, float, float)
BACKWARD(f32_bf16, float, bf16)
BACKWARD(f32_f16, float, f16)
#ifdef OPD_ON_HOST
FORWARD(f64, double)
BACKWARD(f64, double, double)
#endif
#undef FORWARD
#undef BACKWARD
