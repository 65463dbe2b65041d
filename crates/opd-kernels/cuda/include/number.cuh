// The dtypes of tensors and the type that their kernels compute in.
#pragma once

#ifdef OPD_ON_HOST
#include "../host/device.h"
#else
#include <cstdint>
// Dynamic shared memory of a block, as an array of `type`.
#define BLOCK_MEMORY(type, name)                                  \
  extern __shared__ __align__(16) unsigned char block_memory_[]; \
  type *name = reinterpret_cast<type *>(block_memory_)
#define KERNEL extern "C" __global__ void
#define OUTLINE inline __device__ __noinline__
#define EXPORT(name)
#endif

#define INLINE __device__ __forceinline__

typedef long long i64;

struct bf16 {
  unsigned short bits;
};

struct f16 {
  unsigned short bits;
};

INLINE unsigned bits_of(float x) {
  unsigned bits;
#ifdef OPD_ON_HOST
  memcpy(&bits, &x, 4);
#else
  bits = __float_as_uint(x);
#endif
  return bits;
}

INLINE float from_bits(unsigned bits) {
#ifdef OPD_ON_HOST
  float x;
  memcpy(&x, &bits, 4);
  return x;
#else
  return __uint_as_float(bits);
#endif
}

// What kernels compute in: f32, but for tensors of f64.
template <class T> struct accumulator {
  typedef float type;
};
template <> struct accumulator<double> {
  typedef double type;
};
template <class T> using acc = typename accumulator<T>::type;

INLINE float widen(float x) { return x; }
INLINE double widen(double x) { return x; }
INLINE float widen(bf16 x) { return from_bits((unsigned)x.bits << 16); }
INLINE float widen(f16 x) {
#ifdef OPD_ON_HOST
  return half_to_float(x.bits);
#else
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#endif
}

// Rounds to the nearest, ties to even.
template <class T> INLINE T narrow(acc<T> x);
template <> INLINE float narrow<float>(float x) { return x; }
template <> INLINE double narrow<double>(double x) { return x; }
template <> INLINE bf16 narrow<bf16>(float x) {
  unsigned bits = bits_of(x);
  if (x != x) return bf16{(unsigned short)((bits >> 16) | 64)};
  return bf16{(unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
template <> INLINE f16 narrow<f16>(float x) {
#ifdef OPD_ON_HOST
  return f16{float_to_half(x)};
#else
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#endif
}

INLINE float exp_of(float x) { return expf(x); }
INLINE double exp_of(double x) { return exp(x); }
INLINE float log_of(float x) { return logf(x); }
INLINE double log_of(double x) { return log(x); }
INLINE float tanh_of(float x) { return tanhf(x); }
INLINE double tanh_of(double x) { return tanh(x); }
INLINE float root_of(float x) { return sqrtf(x); }
INLINE double root_of(double x) { return sqrt(x); }
// The larger; the other one where one is NaN.
INLINE float larger(float a, float b) { return fmaxf(a, b); }
INLINE double larger(double a, double b) { return fmax(a, b); }
INLINE double infinity() { return HUGE_VAL; }
INLINE double not_a_number() { return nan(""); }

// Defines the kernel of every dtype: `name(f32, float)` and so on. f64 exists on the host alone,
// where gradients are compared with central differences.
#ifdef OPD_ON_HOST
#define FOR_DTYPES(name) name(f32, float) name(bf16, bf16) name(f16, f16) name(f64, double)
#else
#define FOR_DTYPES(name) name(f32, float) name(bf16, bf16) name(f16, f16)
#endif
