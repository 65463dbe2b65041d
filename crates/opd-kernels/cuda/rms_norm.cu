// RMS norm of rows, alone or behind a residual sum, and its backward.
#include "include/columns.cuh"

// r = 1 / sqrt(mean(x^2) + eps),  out = x r weight,  x = a + b where there is a `b`: one block for each
// row. `sum`, if there is a `b`, is x.
template <class T>
INLINE void rms_norm(const T *a, const T *b, const T *weight, T *sum, T *out, i64 width, double eps) {
  typedef acc<T> A;
  i64 from = (i64)blockIdx.x * width;
  A squares = 0;
  for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
    A x = widen(a[from + i]);
    if (b) {
      T rounded = narrow<T>(x + widen(b[from + i]));
      sum[from + i] = rounded;
      x = widen(rounded);
    }
    squares += x * x;
  }
  A r = 1 / root_of(block_sum(squares) / (A)width + (A)eps);
  // Each thread reads what it wrote itself.
  const T *x = b ? sum : a;
  for (i64 i = threadIdx.x; i < width; i += blockDim.x)
    out[from + i] = narrow<T>(widen(x[from + i]) * r * widen(weight[i]));
}

// g = dy weight,  dx = r g - x r^3 mean(g x) + residual,  parts[block] = sum over its rows of dy x r:
// one block for each `per_block` rows.
template <class T>
INLINE void rms_norm_backward(const T *x, const T *weight, const T *dy, const T *residual, T *dx,
                              acc<T> *parts, i64 rows, i64 width, double eps, i64 per_block) {
  typedef acc<T> A;
  A *dweight = parts + (i64)blockIdx.x * width;
  i64 first = (i64)blockIdx.x * per_block;
  i64 last = first + per_block < rows ? first + per_block : rows;
  for (i64 i = threadIdx.x; i < width; i += blockDim.x) dweight[i] = 0;
  for (i64 row = first; row < last; row++) {
    i64 from = row * width;
    A squares = 0, products = 0;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
      A value = widen(x[from + i]);
      squares += value * value;
      products += widen(dy[from + i]) * widen(weight[i]) * value;
    }
    A r = 1 / root_of(block_sum(squares) / (A)width + (A)eps);
    A pull = r * r * r * block_sum(products) / (A)width;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
      A value = widen(x[from + i]), g = widen(dy[from + i]);
      A d = r * g * widen(weight[i]) - value * pull;
      if (residual) d += widen(residual[from + i]);
      dx[from + i] = narrow<T>(d);
      dweight[i] += g * value * r;
    }
  }
}

#define RMS_NORM(dtype, T)                                                                        \
  KERNEL rms_norm_##dtype(const T *a, const T *b, const T *weight, T *sum, T *out, i64 width,     \
                          double eps) {                                                           \
    rms_norm<T>(a, b, weight, sum, out, width, eps);                                              \
  }                                                                                               \
  EXPORT(rms_norm_##dtype)                                                                        \
  KERNEL rms_norm_backward_##dtype(const T *x, const T *weight, const T *dy, const T *residual,   \
                                   T *dx, acc<T> *parts, i64 rows, i64 width, double eps,         \
                                   i64 per_block) {                                               \
    rms_norm_backward<T>(x, weight, dy, residual, dx, parts, rows, width, eps, per_block);        \
  }                                                                                               \
  EXPORT(rms_norm_backward_##dtype)                                                               \
  KERNEL sum_columns_##dtype(const acc<T> *parts, T *out, i64 n, i64 width, i64 stride,           \
                             i64 first) {                                                         \
    sum_columns<T>(parts, out, n, width, stride, first);                                          \
  }                                                                                               \
  EXPORT(sum_columns_##dtype)

FOR_DTYPES(RMS_NORM)
