// Sums and maxima over the threads of a block, in one fixed order.
//
// Blocks are one-dimensional, of whole warps.
#pragma once

#include "number.cuh"

#define WARP 32
#define MOST_WARPS 32
#define ALL_LANES 0xffffffffu

template <class A> INLINE A warp_sum(A value) {
  for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
  return value;
}

template <class A> INLINE A warp_largest(A value) {
  for (int step = WARP / 2; step > 0; step /= 2)
    value = larger(value, __shfl_xor_sync(ALL_LANES, value, step));
  return value;
}

// The sum in every thread.
template <class A> INLINE A block_sum(A value) {
  __shared__ A sums[MOST_WARPS];
  value = warp_sum(value);
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
  __syncthreads();
  A total = 0;
  for (unsigned warp = 0; warp < blockDim.x / WARP; warp++) total += sums[warp];
  __syncthreads();
  return total;
}

// The largest value that is not NaN, in every thread.
template <class A> INLINE A block_largest(A value) {
  __shared__ A values[MOST_WARPS];
  value = warp_largest(value);
  if (threadIdx.x % WARP == 0) values[threadIdx.x / WARP] = value;
  __syncthreads();
  A largest = values[0];
  for (unsigned warp = 1; warp < blockDim.x / WARP; warp++) largest = larger(largest, values[warp]);
  __syncthreads();
  return largest;
}

// The smallest number, in every thread.
INLINE unsigned block_least(unsigned value) {
  __shared__ unsigned values[MOST_WARPS];
  for (int step = WARP / 2; step > 0; step /= 2) {
    unsigned other = __shfl_xor_sync(ALL_LANES, value, step);
    value = other < value ? other : value;
  }
  if (threadIdx.x % WARP == 0) values[threadIdx.x / WARP] = value;
  __syncthreads();
  unsigned least = values[0];
  for (unsigned warp = 1; warp < blockDim.x / WARP; warp++)
    least = values[warp] < least ? values[warp] : least;
  __syncthreads();
  return least;
}
