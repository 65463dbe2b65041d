// A token of each row of logits: the likeliest, or the one that a number of 0..1 falls on if those below 1 are
// shared out among the ids in order, to each as much as its probability. One block for each row.
#include "include/block.cuh"

// Logits whose weights are summed before the sum is added to those of others.
#define PART 256

// Writes the id, or all bits set where the row holds NaN or infinity, or no finite value. A temperature of 0
// asks for the likeliest id, the lowest of several.
template <class T>
INLINE void draw_rows(const T *logits, const double *uniforms, unsigned *ids, i64 width,
                      double temperature) {
  typedef acc<T> A;
  BLOCK_MEMORY(double, sums);
  __shared__ A weights[PART];
  __shared__ i64 shared_part;
  __shared__ double shared_before, shared_target;
  const T *row = logits + (i64)blockIdx.x * width;
  i64 thread = threadIdx.x;
  A max = (A)-infinity();
  unsigned sound = 1;
  for (i64 i = thread; i < width; i += blockDim.x) {
    A x = widen(row[i]);
    max = larger(max, x);
    if (!(x < (A)infinity())) sound = 0;
  }
  max = block_largest(max);
  if (block_least(sound) == 0 || max == (A)-infinity()) {
    if (thread == 0) ids[blockIdx.x] = ~0u;
    return;
  }
  if (temperature == 0) {
    unsigned least = ~0u;
    for (i64 i = thread; i < width && least == ~0u; i += blockDim.x)
      if (widen(row[i]) == max) least = (unsigned)i;
    least = block_least(least);
    if (thread == 0) ids[blockIdx.x] = least;
    return;
  }
  // A difference of 0 stays 0, and one of -inf stays that, whatever the temperature.
  double inverse = 1 / temperature;
  A scale = (A)(inverse < 1.1754943508222875e-38  ? 1.1754943508222875e-38
                : inverse > 3.4028234663852886e38 ? 3.4028234663852886e38
                                                  : inverse);
  i64 parts = (width + PART - 1) / PART, warps = blockDim.x / WARP;
  for (i64 part = thread / WARP; part < parts; part += warps) {
    i64 end = (part + 1) * PART < width ? (part + 1) * PART : width;
    A sum = 0;
    for (i64 i = part * PART + thread % WARP; i < end; i += WARP)
      sum += exp_of((widen(row[i]) - max) * scale);
    sum = warp_sum(sum);
    if (thread % WARP == 0) sums[part] = sum;
  }
  __syncthreads();
  if (thread == 0) {
    double total = 0, before = 0;
    for (i64 part = 0; part < parts; part++) total += sums[part];
    double target = uniforms[blockIdx.x] * total;
    // The last part with any weight: where rounding has left the sums short of the target.
    shared_part = 0;
    shared_before = 0;
    for (i64 part = 0; part < parts; part++) {
      if (sums[part] > 0) {
        shared_part = part;
        shared_before = before;
      }
      before += sums[part];
      if (before > target) break;
    }
    shared_target = target;
  }
  __syncthreads();
  i64 first = shared_part * PART, n = width - first < PART ? width - first : PART;
  for (i64 i = thread; i < n; i += blockDim.x) weights[i] = exp_of((widen(row[first + i]) - max) * scale);
  __syncthreads();
  if (thread == 0) {
    double sum = shared_before;
    i64 id = first;
    for (i64 i = 0; i < n; i++) {
      if (weights[i] > 0) id = first + i;
      sum += weights[i];
      if (sum > shared_target) break;
    }
    ids[blockIdx.x] = (unsigned)id;
  }
}

#define DRAW(dtype, T)                                                                             \
  KERNEL __launch_bounds__(512)                                                                    \
  draw_rows_##dtype(const T *logits, const double *uniforms, unsigned *ids, i64 width,             \
                    double temperature) {                                                          \
    draw_rows<T>(logits, uniforms, ids, width, temperature);                                       \
  }                                                                                                \
  EXPORT(draw_rows_##dtype)

FOR_DTYPES(DRAW)
#undef DRAW
#undef PART
