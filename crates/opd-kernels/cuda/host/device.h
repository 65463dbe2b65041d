// Runs kernels on the host: the threads of a block are fibers on one thread of the system, which
// take turns in a fixed order and wait for each other at barriers and at exchanges within a warp.
//
// Blocks run one after the other, and one kernel at a time, so `__shared__` variables are static. A barrier that
// part of a block does not reach, or an exchange that part of a warp does not, ends the process with
// a message, as does a thread that reads through a null pointer.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __align__(n) alignas(n)
#define __shared__ static
#define __launch_bounds__(...)
#define BLOCK_MEMORY(type, name) type *name = reinterpret_cast<type *>(host::block_memory())
#define KERNEL static void
#define OUTLINE static

struct dim3_host {
  unsigned x, y, z;
};

namespace host {
// Where this fiber is.
extern dim3_host thread_index, block_index, block_size, grid_size;

// Waits for all threads of the block.
void block_barrier();
// Waits for all lanes of the warp; each gets what lane `from(lane)` gave.
uint64_t exchange(uint64_t value, unsigned from);
// This thread's lane.
unsigned lane();
// The block's dynamic shared memory.
void *block_memory();

// A kernel and how its arguments are read from an array of pointers, as the CUDA driver takes them.
struct Kernel {
  const char *name;
  void (*run)(void **);
  Kernel *next;
};
extern Kernel *kernels;

template <class... A, size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_cv_t<A> *>(arguments[I])...);
}

template <class F, F kernel> struct Trampoline;
template <class... A, void (*kernel)(A...)> struct Trampoline<void (*)(A...), kernel> {
  static void run(void **arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>());
  }
};

struct Registered {
  Kernel kernel;
  Registered(const char *name, void (*run)(void **)) : kernel{name, run, kernels} {
    kernels = &kernel;
  }
};

template <class T> T shuffle(T value, unsigned from) {
  static_assert(sizeof(T) <= 8, "an exchange is of at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = exchange(bits, from);
  memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace host

#define EXPORT(name) \
  static host::Registered registered_##name(#name, host::Trampoline<decltype(&name), &name>::run);

#define threadIdx host::thread_index
#define blockIdx host::block_index
#define blockDim host::block_size
#define gridDim host::grid_size

inline void __syncthreads() { host::block_barrier(); }
inline void __syncwarp() { host::exchange(0, host::lane()); }
template <class T> T __shfl_sync(unsigned, T value, int from) { return host::shuffle(value, from); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) {
  return host::shuffle(value, host::lane() ^ mask);
}

// IEEE half precision, rounding to the nearest, ties to even.
inline float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
  float value;
  if (rest >= 0x7c00) {
    uint32_t bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    memcpy(&value, &bits, 4);
    return value;
  }
  value = rest < 0x400 ? ldexpf((float)rest, -24)
                       : ldexpf((float)((rest & 0x3ff) | 0x400), (int)(rest >> 10) - 25);
  return sign ? -value : value;
}

inline uint16_t float_to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  if (value != value) return sign | 0x7e00;
  float size = fabsf(value);
  if (size >= 65520.0f) return sign | 0x7c00;
  int exponent = size < 6.103515625e-5f ? -14 : ilogbf(size);
  // The unit in the last place is 2^(exponent - 10).
  float units = nearbyintf(ldexpf(size, 10 - exponent));
  uint32_t whole = (uint32_t)units;
  if (exponent == -14 && whole < 0x400) return sign | (uint16_t)whole;
  return sign | (uint16_t)(((uint32_t)(exponent + 14) << 10) + whole);
}
