// Discounted sums and advantages within ragged rows: one warp for each row, 32 tokens at a time from the
// last to the first, in f64.
#include "include/block.cuh"

// Replaces lane values x by y_l = x_l + c y_{l + 1}, where `carry` is y of the lane after the last;
// `weight` is c^(32 - lane).
INLINE double scan_back(double x, double c, double weight, double carry) {
  i64 lane = threadIdx.x % WARP;
  double power = c;
  for (int step = 1; step < WARP; step *= 2) {
    double other = __shfl_sync(ALL_LANES, x, (int)((lane + step) % WARP));
    if (lane + step < WARP) x += power * other;
    power *= power;
  }
  return x + weight * carry;
}

// Row `warp` is starts[warp]..starts[warp + 1]. Without `baselines` out = x + discount out', else
// x = rewards + gamma V' - V, and returns = out + V; what follows a row's last token is 0.
template <class T>
INLINE void scan_rows(const T *rewards, const T *baselines, const unsigned *starts, T *out, T *returns,
                      i64 rows, double gamma, double discount) {
  i64 lane = threadIdx.x % WARP;
  i64 row = (i64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (row >= rows) return;
  i64 first = starts[row], end = starts[row + 1];
  double weight = pow(discount, (double)(WARP - lane)), carry = 0;
  for (i64 last = end; last > first; last -= WARP) {
    // Lanes before the row's first token come last and reach nothing.
    i64 token = last - WARP + lane;
    bool present = token >= first;
    double x = present ? (double)widen(rewards[token]) : 0, value = 0;
    if (baselines && present) {
      value = widen(baselines[token]);
      x += (token + 1 < end ? gamma * (double)widen(baselines[token + 1]) : 0) - value;
    }
    double y = scan_back(x, discount, weight, carry);
    if (present) {
      out[token] = narrow<T>((acc<T>)y);
      if (baselines) returns[token] = narrow<T>((acc<T>)(y + value));
    }
    carry = __shfl_sync(ALL_LANES, y, 0);
  }
}

#define SCANS(dtype, T)                                                                           \
  KERNEL scan_rows_##dtype(const T *rewards, const T *baselines, const unsigned *starts, T *out,  \
                           T *returns, i64 rows, double gamma, double discount) {                 \
    scan_rows<T>(rewards, baselines, starts, out, returns, rows, gamma, discount);                \
  }                                                                                               \
  EXPORT(scan_rows_##dtype)

SCANS(f32, float)
#ifdef OPD_ON_HOST
SCANS(f64, double)
#endif
