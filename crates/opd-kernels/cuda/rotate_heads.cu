// Norms and rotary positions of the heads of fused queries, keys and values: one warp for each head.
#include "include/block.cuh"

// How a row is cut into heads, and where a warp is.
struct Head {
  i64 row, head, total, dim;
  bool query, value;

  INLINE Head(i64 index, i64 heads, i64 kv_heads, i64 dim_) {
    total = heads + 2 * kv_heads;
    dim = dim_;
    row = index / total;
    head = index % total;
    query = head < heads;
    value = head >= heads + kv_heads;
  }

  INLINE i64 at() const { return (row * total + head) * dim; }
};

template <class T> struct Rotary {
  const T *qkv, *query_norm, *key_norm, *cos, *sin;
  const unsigned *positions;
  i64 rows, heads, kv_heads, dim;
  double eps;

  INLINE acc<T> inverse_rms(const T *x) const {
    acc<T> squares = 0;
    for (i64 i = threadIdx.x % WARP; i < dim; i += WARP) squares += widen(x[i]) * widen(x[i]);
    return 1 / root_of(warp_sum(squares) / (acc<T>)dim + (acc<T>)eps);
  }

  // y_i = x_i cos - x_{i+h} sin,  y_{i+h} = x_{i+h} cos + x_i sin,  h = dim / 2
  INLINE void forward(T *out) const {
    typedef acc<T> A;
    i64 lane = threadIdx.x % WARP, warps = blockDim.x / WARP, half = dim / 2;
    i64 index = (i64)blockIdx.x * warps + threadIdx.x / WARP;
    Head at(index, heads, kv_heads, dim);
    if (at.row >= rows) return;
    const T *x = qkv + at.at(), *weight = at.query ? query_norm : key_norm;
    T *y = out + at.at();
    if (at.value) {
      for (i64 i = lane; i < dim; i += WARP) y[i] = x[i];
      return;
    }
    A r = weight ? inverse_rms(x) : 1;
    i64 angle = (i64)positions[at.row] * half;
    for (i64 i = lane; i < half; i += WARP) {
      A a = widen(x[i]), b = widen(x[half + i]), c = widen(cos[angle + i]), s = widen(sin[angle + i]);
      if (weight) {
        a = a * r * widen(weight[i]);
        b = b * r * widen(weight[half + i]);
      }
      y[i] = narrow<T>(a * c - b * s);
      y[half + i] = narrow<T>(b * c + a * s);
    }
  }

  // The rotation back, then the norm's gradient. Warp w of the grid takes the heads `w + k warps` for
  // k below `per_warp`; parts[w] is [2, dim]: what its query and key heads give the norms' weights.
  INLINE void backward(const T *dy, T *dqkv, acc<T> *parts, i64 per_warp) const {
    typedef acc<T> A;
    i64 lane = threadIdx.x % WARP, warps = blockDim.x / WARP, half = dim / 2;
    i64 warp = (i64)blockIdx.x * warps + threadIdx.x / WARP;
    A *dweights = parts + warp * 2 * dim;
    if (query_norm)
      for (i64 i = lane; i < dim; i += WARP) dweights[i] = dweights[dim + i] = 0;
    for (i64 k = 0; k < per_warp; k++) {
      Head at(warp * per_warp + k, heads, kv_heads, dim);
      if (at.row >= rows) return;
      const T *x = qkv + at.at(), *g = dy + at.at(), *weight = at.query ? query_norm : key_norm;
      T *dx = dqkv + at.at();
      if (at.value) {
        for (i64 i = lane; i < dim; i += WARP) dx[i] = g[i];
        continue;
      }
      i64 angle = (i64)positions[at.row] * half;
      auto back = [&](i64 i, A &a, A &b) {
        A c = widen(cos[angle + i]), s = widen(sin[angle + i]);
        A u = widen(g[i]), v = widen(g[half + i]);
        a = u * c + v * s;
        b = v * c - u * s;
      };
      A r = 1, pull = 0;
      if (weight) {
        A products = 0;
        for (i64 i = lane; i < half; i += WARP) {
          A a, b;
          back(i, a, b);
          products += a * widen(weight[i]) * widen(x[i]);
          products += b * widen(weight[half + i]) * widen(x[half + i]);
        }
        r = inverse_rms(x);
        pull = r * r * r * warp_sum(products) / (A)dim;
      }
      A *dweight = dweights + (at.query ? 0 : dim);
      for (i64 i = lane; i < half; i += WARP) {
        A a, b;
        back(i, a, b);
        if (weight) {
          A x0 = widen(x[i]), x1 = widen(x[half + i]);
          dweight[i] += a * x0 * r;
          dweight[half + i] += b * x1 * r;
          a = r * a * widen(weight[i]) - x0 * pull;
          b = r * b * widen(weight[half + i]) - x1 * pull;
        }
        dx[i] = narrow<T>(a);
        dx[half + i] = narrow<T>(b);
      }
    }
  }
};

#define ROTARY(dtype, T)                                                                          \
  KERNEL rotate_heads_##dtype(const T *qkv, const T *query_norm, const T *key_norm, const T *cos, \
                              const T *sin, const unsigned *positions, i64 rows, i64 heads,       \
                              i64 kv_heads, i64 dim, double eps, T *out) {                        \
    Rotary<T> rotary = {qkv, query_norm, key_norm, cos, sin, positions,                           \
                        rows, heads, kv_heads, dim, eps};                                         \
    rotary.forward(out);                                                                          \
  }                                                                                               \
  EXPORT(rotate_heads_##dtype)                                                                    \
  KERNEL rotate_heads_backward_##dtype(                                                           \
      const T *qkv, const T *query_norm, const T *key_norm, const T *cos, const T *sin,           \
      const unsigned *positions, i64 rows, i64 heads, i64 kv_heads, i64 dim, double eps,          \
      const T *dy, T *dqkv, acc<T> *parts, i64 per_warp) {                                        \
    Rotary<T> rotary = {qkv, query_norm, key_norm, cos, sin, positions,                           \
                        rows, heads, kv_heads, dim, eps};                                         \
    rotary.backward(dy, dqkv, parts, per_warp);                                                   \
  }                                                                                               \
  EXPORT(rotate_heads_backward_##dtype)

FOR_DTYPES(ROTARY)
