// Loops over two rows of logits at once, 16 bytes of each at a time.
#pragma once

#include "row_stats.cuh"

// What of two or three rows lies on multiples of 16 bytes in all of them: `count` packs from `head`.
// `rest` values lie before and behind.
struct Packs {
  i64 head, count, size, rest;

  template <class T, class G>
  INLINE Packs(const T *x, const T *y, const G *out, i64 width) : size(Pack<T>::SIZE) {
    head = head_of(x, width);
    uintptr_t target = (uintptr_t)(out + head) % (Pack<T>::SIZE * sizeof(G));
    bool together = head_of(y, width) == head && target == 0;
    count = together ? (width - head) / size : 0;
    rest = width - count * size;
  }

  // Where a pack starts, and where one of the rest is.
  INLINE i64 at(i64 pack) const { return head + pack * size; }
  INLINE i64 outside(i64 i) const { return i < head ? i : i + count * size; }
};

// A pack as it was read: of values of 2 bytes the compiler makes a mess.
struct alignas(16) Quad {
  unsigned words[4];
};

template <class T> INLINE Quad load_quad(const T *from) {
  return *reinterpret_cast<const Quad *>(from);
}

// Value `i` of a pack.
template <class T> INLINE acc<T> value_of(const Quad &quad, int i);
template <> INLINE float value_of<float>(const Quad &quad, int i) { return from_bits(quad.words[i]); }
template <> INLINE float value_of<bf16>(const Quad &quad, int i) {
  unsigned word = quad.words[i / 2];
  return from_bits(i % 2 ? word & 0xffff0000u : word << 16);
}
template <> INLINE float value_of<f16>(const Quad &quad, int i) {
  unsigned word = quad.words[i / 2];
  return widen(f16{(unsigned short)(i % 2 ? word >> 16 : word)});
}
#ifdef OPD_ON_HOST
template <> INLINE double value_of<double>(const Quad &quad, int i) {
  double value;
  memcpy(&value, quad.words + 2 * i, sizeof(value));
  return value;
}
#endif

// Two values of 2 bytes in the order of memory, each rounded to the nearest.
template <class G> INLINE unsigned narrow_two(float low, float high);
#ifdef OPD_ON_HOST
template <> INLINE unsigned narrow_two<bf16>(float low, float high) {
  return narrow<bf16>(low).bits | (unsigned)narrow<bf16>(high).bits << 16;
}
template <> INLINE unsigned narrow_two<f16>(float low, float high) {
  return narrow<f16>(low).bits | (unsigned)narrow<f16>(high).bits << 16;
}
#else
template <> INLINE unsigned narrow_two<bf16>(float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
template <> INLINE unsigned narrow_two<f16>(float low, float high) {
  unsigned both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}
#endif

template <int BYTES> struct alignas(BYTES) Store {
  unsigned words[BYTES / 4];
};

// Rounds and stores values side by side, in one instruction.
template <class G> struct Row {
  template <int N> static INLINE void store(G *to, const float (&values)[N]) {
    Store<N * sizeof(G)> packed;
    for (int i = 0; i < N / 2; i++)
      packed.words[i] = narrow_two<G>(values[2 * i], values[2 * i + 1]);
    *reinterpret_cast<Store<N * sizeof(G)> *>(to) = packed;
  }
};
template <> struct Row<float> {
  template <int N> static INLINE void store(float *to, const float (&values)[N]) {
    Store<N * 4> packed;
    for (int i = 0; i < N; i++) packed.words[i] = bits_of(values[i]);
    *reinterpret_cast<Store<N * 4> *>(to) = packed;
  }
};
template <> struct Row<double> {
  template <int N> static INLINE void store(double *to, const double (&values)[N]) {
    for (int i = 0; i < N; i++) to[i] = values[i];
  }
};

// The packs of a thread, from pack `first` on, that are there.
template <int PACKS, class T>
INLINE void load_pairs(const Packs &packs, const T *x, const T *y, i64 first, Quad (&ours)[PACKS],
                       Quad (&theirs)[PACKS]) {
#pragma unroll
  for (int k = 0; k < PACKS; k++) {
    i64 pack = first + k * (i64)blockDim.x;
    if (pack < packs.count) {
      ours[k] = load_quad(x + packs.at(pack));
      theirs[k] = load_quad(y + packs.at(pack));
    }
  }
}

// out[i] = f(x[i], y[i], i == id). `out` may be `x`.
template <int PACKS, class T, class G, class F>
INLINE void map_pairs(const T *x, const T *y, G *out, i64 width, i64 id, F f) {
  const int SIZE = Pack<T>::SIZE;
  Packs packs(x, y, out, width);
  for (i64 first = threadIdx.x; first < packs.count; first += PACKS * (i64)blockDim.x) {
    Quad ours[PACKS], theirs[PACKS];
    load_pairs(packs, x, y, first, ours, theirs);
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
      i64 pack = first + k * (i64)blockDim.x;
      if (pack < packs.count) {
        i64 at = packs.at(pack);
        int own = id >= at && id < at + SIZE ? (int)(id - at) : -1;
        acc<T> values[SIZE];
#pragma unroll
        for (int i = 0; i < SIZE; i++)
          values[i] = f(value_of<T>(ours[k], i), value_of<T>(theirs[k], i), i == own);
        Row<G>::store(out + at, values);
      }
    }
  }
  for (i64 i = threadIdx.x; i < packs.rest; i += blockDim.x) {
    i64 at = packs.outside(i);
    out[at] = narrow<G>(f(widen(x[at]), widen(y[at]), at == id));
  }
}

// Adds up the two parts of `f(x[i], y[i])` of this thread, packs in the type of the sums and all in f64.
template <class T, class F>
INLINE void sum_pairs(const T *x, const T *y, i64 width, double &first, double &second, F f) {
  const int SIZE = Pack<T>::SIZE;
  Packs packs(x, y, x, width);
  for (i64 pack = threadIdx.x; pack < packs.count; pack += blockDim.x) {
    Quad ours = load_quad(x + packs.at(pack)), theirs = load_quad(y + packs.at(pack));
    acc<T> firsts = 0, seconds = 0;
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
      auto terms = f(value_of<T>(ours, i), value_of<T>(theirs, i));
      firsts += terms.value;
      seconds += terms.pull;
    }
    first += firsts;
    second += seconds;
  }
  for (i64 i = threadIdx.x; i < packs.rest; i += blockDim.x) {
    i64 at = packs.outside(i);
    auto terms = f(widen(x[at]), widen(y[at]));
    first += terms.value;
    second += terms.pull;
  }
}
