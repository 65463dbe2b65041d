// Ops on each value by itself: SwiGLU, AdamW, sums in place, moving averages; and sums of squares.
#include "include/columns.cuh"

template <class A> INLINE A sigmoid(A x) { return 1 / (1 + exp_of(-x)); }

// out = silu(gate) up; rows of `gate_up` are `width` gates and `width` ups.
template <class T> INLINE void swiglu(const T *gate_up, T *out, i64 n, i64 width) {
  for_values(n, [&](i64 i) {
    i64 at = i / width * 2 * width + i % width;
    acc<T> gate = widen(gate_up[at]), up = widen(gate_up[at + width]);
    out[i] = narrow<T>(gate * sigmoid(gate) * up);
  });
}

template <class T>
INLINE void swiglu_backward(const T *gate_up, const T *dy, T *out, i64 n, i64 width) {
  typedef acc<T> A;
  for_values(n, [&](i64 i) {
    i64 at = i / width * 2 * width + i % width;
    A gate = widen(gate_up[at]), up = widen(gate_up[at + width]), g = widen(dy[i]);
    A s = sigmoid(gate);
    out[at] = narrow<T>(g * up * s * (1 + gate * (1 - s)));
    out[at + width] = narrow<T>(g * gate * s);
  });
}

// m = beta1 m + rest1 g,  v = beta2 v + rest2 g^2,  p = p keep - rate m / (sqrt(v) root + eps)
template <class T>
INLINE void adamw(T *p, const T *g, T *m, T *v, i64 n, double beta1, double rest1, double beta2,
                  double rest2, double keep, double rate, double root, double eps, double scale) {
  typedef acc<T> A;
  for_values(n, [&](i64 i) {
    A gradient = widen(g[i]) * (A)scale;
    A first = (A)beta1 * widen(m[i]) + (A)rest1 * gradient;
    A second = (A)beta2 * widen(v[i]) + (A)rest2 * gradient * gradient;
    m[i] = narrow<T>(first);
    v[i] = narrow<T>(second);
    p[i] = narrow<T>(widen(p[i]) * (A)keep - (A)rate * first / (root_of(second) * (A)root + (A)eps));
  });
}

// parts[block] = sum of the squares of its values.
template <class T> INLINE void sum_of_squares(const T *values, double *parts, i64 n, i64 per_block) {
  i64 first = (i64)blockIdx.x * per_block;
  i64 last = first + per_block < n ? first + per_block : n;
  double sum = 0;
  for (i64 i = first + threadIdx.x; i < last; i += blockDim.x) {
    double value = widen(values[i]);
    sum += value * value;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

#define VALUES(dtype, T)                                                                          \
  KERNEL swiglu_##dtype(const T *gate_up, T *out, i64 n, i64 width) {                             \
    swiglu<T>(gate_up, out, n, width);                                                            \
  }                                                                                               \
  EXPORT(swiglu_##dtype)                                                                          \
  KERNEL swiglu_backward_##dtype(const T *gate_up, const T *dy, T *out, i64 n, i64 width) {       \
    swiglu_backward<T>(gate_up, dy, out, n, width);                                               \
  }                                                                                               \
  EXPORT(swiglu_backward_##dtype)                                                                 \
  KERNEL adamw_##dtype(T *p, const T *g, T *m, T *v, i64 n, double beta1, double rest1,           \
                       double beta2, double rest2, double keep, double rate, double root,         \
                       double eps, double scale) {                                                \
    adamw<T>(p, g, m, v, n, beta1, rest1, beta2, rest2, keep, rate, root, eps, scale);            \
  }                                                                                               \
  EXPORT(adamw_##dtype)                                                                           \
  KERNEL add_assign_##dtype(T *sums, const T *values, i64 n) {                                    \
    for_values(n, [&](i64 i) { sums[i] = narrow<T>(widen(sums[i]) + widen(values[i])); });        \
  }                                                                                               \
  EXPORT(add_assign_##dtype)                                                                      \
  KERNEL moving_average_##dtype(T *average, const T *values, i64 n, double keep, double take) {   \
    for_values(n, [&](i64 i) {                                                                    \
      average[i] = narrow<T>((acc<T>)keep * widen(average[i]) + (acc<T>)take * widen(values[i])); \
    });                                                                                           \
  }                                                                                               \
  EXPORT(moving_average_##dtype)                                                                  \
  KERNEL sum_of_squares_##dtype(const T *values, double *parts, i64 n, i64 per_block) {           \
    sum_of_squares<T>(values, parts, n, per_block);                                               \
  }                                                                                               \
  EXPORT(sum_of_squares_##dtype)

FOR_DTYPES(VALUES)
