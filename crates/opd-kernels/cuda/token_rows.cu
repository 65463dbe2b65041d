// Log-prob, log-sum-exp and entropy of rows of logits, and their gradients: one block for each row.
//
// Statistics are [5, T] in f32: log-prob, log-sum-exp, entropy; then what the backward reads:
// maximum, log-sum.
#include "include/row_stats.cuh"

template <class T>
INLINE void token_rows_forward(const T *logits, const unsigned *ids, acc<T> *out, i64 rows,
                               i64 width, double temperature) {
  i64 row = blockIdx.x;
  const T *values = logits + row * width;
  RowStats stats = row_stats(values, width, temperature);
  if (threadIdx.x == 0) {
    unsigned id = ids[row];
    double logit = id < width ? (double)widen(values[id]) : not_a_number();
    out[row] = (acc<T>)stats.log_prob(logit, temperature);
    out[rows + row] = (acc<T>)(stats.max / temperature + stats.log_sum);
    out[2 * rows + row] = (acc<T>)stats.entropy;
    out[3 * rows + row] = (acc<T>)stats.max;
    out[4 * rows + row] = (acc<T>)stats.log_sum;
  }
}

// dx_v = (g_logp (1[v = id] - p_v) + g_lse p_v - g_entropy p_v (log p_v + entropy)) / temperature
//
// `out` may be `logits`.
template <class T, class G>
INLINE void token_rows_backward(const T *logits, const unsigned *ids, const acc<T> *saved,
                                const acc<T> *upstream, G *out, i64 rows, i64 width,
                                double temperature) {
  typedef acc<T> A;
  __shared__ A scalars[7];
  i64 row = blockIdx.x;
  const T *values = logits + row * width;
  G *target = out + row * width;
  unsigned id = ids[row];
  double g_logp = upstream[row], g_lse = upstream[rows + row], g_entropy = upstream[2 * rows + row];
  if (g_logp == 0 && g_lse == 0 && g_entropy == 0) {
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) target[i] = narrow<G>(0);
    return;
  }
  if (threadIdx.x == 0) {
    double log_prob = saved[row], entropy = saved[2 * rows + row], log_sum = saved[4 * rows + row];
    double per = 1 / temperature, p = exp(log_prob);
    double curve = p == 0 ? 0 : g_entropy * p * (log_prob + entropy);
    scalars[0] = saved[3 * rows + row];
    scalars[1] = (A)per;
    scalars[2] = (A)log_sum;
    scalars[3] = (A)exp(-log_sum);
    scalars[4] = (A)(per * (g_lse - g_logp - g_entropy * entropy));
    scalars[5] = (A)(per * g_entropy);
    // 1 - p from the log-prob: no cancellation where the token is nearly certain.
    scalars[6] = (A)(per * (-g_logp * expm1(log_prob) + g_lse * p - curve));
  }
  __syncthreads();
  A max = scalars[0], inverse = scalars[1], shift = scalars[2], scale = scalars[3];
  A constant = scalars[4], slope = scalars[5], own = scalars[6];
  auto gradient = [&](T x, i64 at) {
    A d = (widen(x) - max) * inverse;
    A p = exp_of(d) * scale;
    A g = p * (constant - slope * (d - shift));
    return narrow<G>(at == id ? own : p == 0 ? 0 : g);
  };
  const int SIZE = Pack<T>::SIZE;
  i64 head = head_of(values, width), packs = 0;
  bool aligned = sizeof(T) == sizeof(G) && head_of(target, width) == head;
  if (aligned) packs = (width - head) / SIZE;
  for (i64 k = threadIdx.x; k < packs; k += blockDim.x) {
    i64 at = head + k * SIZE;
    Pack<T> pack = load_pack(values + at);
    Pack<G> result;
    for (int i = 0; i < SIZE; i++) result.values[i % Pack<G>::SIZE] = gradient(pack.values[i], at + i);
    store_pack(target + at, result);
  }
  i64 tail = head + packs * SIZE, rest = head + width - tail;
  for (i64 i = threadIdx.x; i < rest; i += blockDim.x) {
    i64 at = i < head ? i : tail + i - head;
    target[at] = gradient(values[at], at);
  }
}

#define FORWARD(dtype, T)                                                                        \
  KERNEL token_rows_forward_##dtype(const T *logits, const unsigned *ids, acc<T> *out, i64 rows, \
                                    i64 width, double temperature) {                             \
    token_rows_forward<T>(logits, ids, out, rows, width, temperature);                           \
  }                                                                                              \
  EXPORT(token_rows_forward_##dtype)

#define BACKWARD(name, T, G)                                                                     \
  KERNEL token_rows_backward_##name(const T *logits, const unsigned *ids, const acc<T> *saved,   \
                                    const acc<T> *upstream, G *out, i64 rows, i64 width,         \
                                    double temperature) {                                        \
    token_rows_backward<T, G>(logits, ids, saved, upstream, out, rows, width, temperature);      \
  }                                                                                              \
  EXPORT(token_rows_backward_##name)

#define BACKWARD_OF(dtype, T) BACKWARD(dtype, T, T)

FOR_DTYPES(FORWARD)
FOR_DTYPES(BACKWARD_OF)
// Gradients of f32 products of tensors of half the size.
BACKWARD(f32_bf16, float, bf16)
BACKWARD(f32_f16, float, f16)

// The place of the first id outside the vocabulary, in `first`; all bits set if there is none. One
// block.
KERNEL first_outside(const unsigned *ids, i64 n, i64 limit, unsigned *first) {
  unsigned least = ~0u;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x)
    if (ids[i] >= limit && least == ~0u) least = (unsigned)i;
  least = block_least(least);
  if (threadIdx.x == 0) *first = least;
}
EXPORT(first_outside)
#undef FORWARD
#undef BACKWARD
#undef BACKWARD_OF
