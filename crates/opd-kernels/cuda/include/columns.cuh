// Sums over rows of partial sums, and loops over values that know no rows.
#pragma once

#include "block.cuh"

// Values of one block; as on the host's side of the launch.
#define BLOCK_VALUES 1024

// Runs `work(i)` for the values of this block.
template <class F> INLINE void for_values(i64 n, F work) {
  i64 first = (i64)blockIdx.x * BLOCK_VALUES;
  i64 last = first + BLOCK_VALUES < n ? first + BLOCK_VALUES : n;
  for (i64 i = first + threadIdx.x; i < last; i += blockDim.x) work(i);
}

// out[j] = sum_i parts[i][first + j], in the order of i; rows of `parts` are `stride` apart.
template <class T>
INLINE void sum_columns(const acc<T> *parts, T *out, i64 n, i64 width, i64 stride, i64 first) {
  for_values(width, [&](i64 j) {
    acc<T> sum = 0;
    for (i64 i = 0; i < n; i++) sum += parts[i * stride + first + j];
    out[j] = narrow<T>(sum);
  });
}
