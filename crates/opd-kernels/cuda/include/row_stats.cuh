// One pass over a row of logits by a block: what softmax(row / temperature) needs, and its entropy.
#pragma once

#include "block.cuh"

// 16 bytes of a row.
template <class T> struct alignas(16) Pack {
  static const int SIZE = 16 / sizeof(T);
  T values[SIZE];
};

template <class T> INLINE Pack<T> load_pack(const T *from) {
  return *reinterpret_cast<const Pack<T> *>(from);
}

struct alignas(16) Words {
  unsigned words[4];
};

// As words, of which the compiler makes wider stores than of values of 2 bytes.
template <class T> INLINE void store_pack(T *to, const Pack<T> &pack) {
  Words words;
  memcpy(&words, &pack, sizeof(words));
  *reinterpret_cast<Words *>(to) = words;
}

// Values before the first that lies on a multiple of 16 bytes.
template <class T> INLINE i64 head_of(const T *row, i64 width) {
  i64 head = (i64)((16 - (uintptr_t)row % 16) % 16 / sizeof(T));
  return head < width ? head : width;
}

// log p_v = (x_v - max) / temperature - log_sum
struct RowStats {
  double max;
  // log sum_v exp((x_v - max) / temperature), to full relative precision even near 0.
  double log_sum;
  // -sum_v p_v log p_v, nats.
  double entropy;

  INLINE double log_prob(double x, double temperature) const {
    return (x - max) / temperature - log_sum;
  }
};

// Sums over part of a row. Entries equal to the maximum are counted apart from the rest: a sum that
// holds them would round away a small rest, and with it the entropy.
template <class A> struct Sums {
  A max;
  double ties, rest, weighted;

  INLINE void rescale(A to, double temperature) {
    double total = ties + rest;
    if (total != 0) {
      double shift = ((double)max - (double)to) / temperature;
      double factor = exp(shift);
      weighted = factor > 0 ? (weighted + total * shift) * factor : 0;
      rest = total * factor;
      ties = 0;
    }
    max = to;
  }

  // Takes in `N` values; those at or beyond `n` are not there.
  template <int N> INLINE void add(const A (&x)[N], int n, A inverse, double temperature) {
    A tile = (A)-infinity();
    bool strange = false;
    for (int i = 0; i < N; i++) {
      if (i < n) {
        tile = larger(tile, x[i]);
        strange = strange || x[i] != x[i];
      }
    }
    if (strange) rest = not_a_number();
    if (tile == (A)-infinity()) return;
    if (tile > max) rescale(tile, temperature);
    A tie_count = 0, others = 0, products = 0;
    for (int i = 0; i < N; i++) {
      if (i < n) {
        A d = (x[i] - max) * inverse;
        A e = exp_of(d);
        bool tie = d == 0;
        tie_count += tie ? 1 : 0;
        others += tie ? 0 : e;
        products += e == 0 ? 0 : e * d;
      }
    }
    ties += tie_count;
    rest += others;
    weighted += products;
  }
};

// Statistics of `row` in every thread; all NaN where the row holds NaN or positive infinity, or no
// finite value.
template <class T> INLINE RowStats row_stats(const T *row, i64 width, double temperature) {
  typedef acc<T> A;
  const int SIZE = Pack<T>::SIZE, PACKS = 2;
  A inverse = (A)(1.0 / temperature);
  Sums<A> sums = {(A)-infinity(), 0, 0, 0};
  i64 head = head_of(row, width), packs = (width - head) / SIZE, thread = threadIdx.x;
  A tile[PACKS * SIZE];
  for (i64 first = thread; first < packs; first += PACKS * (i64)blockDim.x) {
    int n = 0;
    for (int k = 0; k < PACKS; k++) {
      i64 at = first + k * (i64)blockDim.x;
      if (at < packs) {
        Pack<T> pack = load_pack(row + head + at * SIZE);
        for (int i = 0; i < SIZE; i++) tile[k * SIZE + i] = widen(pack.values[i]);
        n = (k + 1) * SIZE;
      }
    }
    sums.add(tile, n, inverse, temperature);
  }
  // Less than a pack on either side.
  i64 tail = head + packs * SIZE, rest = head + width - tail;
  for (i64 i = thread; i < rest; i += blockDim.x) {
    A one[1] = {widen(row[i < head ? i : tail + i - head])};
    sums.add(one, 1, inverse, temperature);
  }

  A max = block_largest(sums.max);
  if (sums.max != max) sums.rescale(max, temperature);
  double ties = block_sum(sums.ties), others = block_sum(sums.rest);
  double weighted = block_sum(sums.weighted);
  if (ties == 0) return RowStats{not_a_number(), not_a_number(), not_a_number()};
  double log_sum = log1p(ties - 1 + others);
  return RowStats{(double)max, log_sum, log_sum - weighted / (ties + others)};
}
