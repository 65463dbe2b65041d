// Log-prob, log-sum-exp and entropy of rows of logits without a cap, and their gradients: one block for
// each row. score_rows.cu has what is asked beside, and the cap.
#include "include/token_gradient.cuh"

// The entropy is 0 where nobody asks for it.
template <class T>
INLINE void token_rows_forward(const T *logits, const unsigned *ids, acc<T> *out, i64 rows,
                               i64 width, double temperature, i64 entropy) {
  const T *values = logits + (i64)blockIdx.x * width;
  RowStats stats = entropy ? row_stats<T>(values, width, temperature)
                           : row_stats<T, false>(values, width, temperature);
  write_statistics(stats, values, ids[blockIdx.x], out, rows, width, temperature,
                   Uncapped<acc<T>>());
}

// dx_v = (g_logp (1[v = id] - p_v) + g_lse p_v - g_entropy p_v (log p_v + entropy)) / temperature
//
// `out` may be `logits`.
template <class T, class G>
INLINE void token_rows_backward(const T *logits, const unsigned *ids, const acc<T> *saved,
                                const acc<T> *upstream, G *out, i64 rows, i64 width,
                                double temperature) {
  typedef acc<T> A;
  __shared__ RowGradient<A> shared;
  __shared__ A shared_own;
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
    double per = 1 / temperature;
    shared = row_gradient<A>(saved[3 * rows + row], log_sum, entropy, g_logp, g_lse, g_entropy,
                             per);
    double own = gradient_of_id(log_prob, g_logp, 0, g_lse, g_entropy, entropy, per);
    shared_own = (A)own;
  }
  __syncthreads();
  RowGradient<A> common = shared;
  A own = shared_own;
  write_gradients<T, G>(values, target, width,
                        [&](A x, i64 at) { return at == id ? own : common.of(x, Uncapped<A>()); });
}

#define FORWARD(dtype, T)                                                                            \
  KERNEL __launch_bounds__(512, 2)                                                                   \
  token_rows_forward_##dtype(const T *logits, const unsigned *ids, acc<T> *out, i64 rows,            \
                             i64 width, double temperature, i64 entropy) {                           \
    token_rows_forward<T>(logits, ids, out, rows, width, temperature, entropy);                      \
  }                                                                                                  \
  EXPORT(token_rows_forward_##dtype)

#define BACKWARD(name, T, G)                                                                         \
  KERNEL __launch_bounds__(512, 3)                                                                   \
  token_rows_backward_##name(const T *logits, const unsigned *ids, const acc<T> *saved,              \
                             const acc<T> *upstream, G *out, i64 rows, i64 width,                    \
                             double temperature) {                                                   \
    token_rows_backward<T, G>(logits, ids, saved, upstream, out, rows, width, temperature);          \
  }                                                                                                  \
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
