// One pass over a row of logits by a block: what softmax(cap(row) / temperature) needs, and its entropy.
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

// No cap.
template <class A> struct Uncapped {
  INLINE A value(A x) const { return x; }
  INLINE A slope(A) const { return 1; }
};

// cap tanh(x / cap); infinity and NaN stay what they are.
template <class A> struct SoftCap {
  A cap, inverse;

  INLINE explicit SoftCap(double cap_) : cap((A)cap_), inverse((A)(1 / cap_)) {}
  INLINE A value(A x) const {
    A capped = cap * tanh_of(x * inverse);
    return x - x == 0 ? capped : x;
  }
  // 1 - tanh(x / cap)^2, from exponentials: no cancellation near the cap.
  INLINE A slope(A x) const {
    A y = x * inverse, e = exp_of(y > 0 ? -2 * y : 2 * y), whole = 1 + e;
    return 4 * e / (whole * whole);
  }
};

// Calls `work` with the cap; 0 stands for none.
template <class A, class F> INLINE void with_cap(double cap, F work) {
  if (cap > 0) return work(SoftCap<A>(cap));
  work(Uncapped<A>());
}

// Sees no logit.
struct Unseen {
  template <class A> INLINE void operator()(A, i64) const {}
};

// log p_v = (x_v - max) / temperature - log_sum
struct RowStats {
  double max;
  // log sum_v exp((x_v - max) / temperature), to full relative precision even near 0.
  double log_sum;
  // -sum_v p_v log p_v, nats; 0 where nobody asks for it.
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
  template <bool ENTROPY, int N>
  INLINE void add(const A (&x)[N], int n, A inverse, double temperature) {
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
        if (ENTROPY) products += e == 0 ? 0 : e * d;
      }
    }
    ties += tie_count;
    rest += others;
    weighted += products;
  }
};

// Statistics of `row` in every thread; all NaN where the row holds NaN or positive infinity, or no
// finite value. `see(x, v)` gets each logit, in the thread that reads it.
template <class T, bool ENTROPY = true, class C = Uncapped<acc<T>>, class F = Unseen>
INLINE RowStats row_stats(const T *row, i64 width, double temperature, C cap = C(), F see = F()) {
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
        for (int i = 0; i < SIZE; i++) {
          A x = widen(pack.values[i]);
          see(x, head + at * SIZE + i);
          tile[k * SIZE + i] = cap.value(x);
        }
        n = (k + 1) * SIZE;
      }
    }
    sums.template add<ENTROPY>(tile, n, inverse, temperature);
  }
  // Less than a pack on either side.
  i64 tail = head + packs * SIZE, rest = head + width - tail;
  for (i64 i = thread; i < rest; i += blockDim.x) {
    i64 at = i < head ? i : tail + i - head;
    A x = widen(row[at]);
    see(x, at);
    A one[1] = {cap.value(x)};
    sums.template add<ENTROPY>(one, 1, inverse, temperature);
  }

  A max = block_largest(sums.max);
  if (sums.max != max) sums.rescale(max, temperature);
  double ties = block_sum(sums.ties), others = block_sum(sums.rest);
  double weighted = ENTROPY ? block_sum(sums.weighted) : 0;
  if (ties == 0) return RowStats{not_a_number(), not_a_number(), not_a_number()};
  double log_sum = log1p(ties - 1 + others);
  double entropy = ENTROPY ? log_sum - weighted / (ties + others) : 0;
  return RowStats{(double)max, log_sum, entropy};
}
