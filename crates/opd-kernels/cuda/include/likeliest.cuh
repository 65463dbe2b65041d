// The largest values of a row, by a block that reads it anyway.
#pragma once

#include "block.cuh"

#define NO_ID (~0u)

// A value and its id. NaN ranks as negative infinity.
template <class A> struct Candidate {
  A value;
  unsigned id;

  // Larger values first, of equal ones the lower id.
  INLINE bool before(const Candidate &other) const {
    return value > other.value || (value == other.value && id < other.id);
  }
};

template <class A> INLINE Candidate<A> candidate(A x, i64 id) {
  return {x == x ? x : (A)-infinity(), (unsigned)id};
}

// The first of what the threads have, in every thread.
template <class A> INLINE Candidate<A> block_first(Candidate<A> first) {
  __shared__ A values[MOST_WARPS];
  __shared__ unsigned ids[MOST_WARPS];
  for (int step = WARP / 2; step > 0; step /= 2) {
    Candidate<A> other = {__shfl_xor_sync(ALL_LANES, first.value, step),
                          __shfl_xor_sync(ALL_LANES, first.id, step)};
    if (other.before(first)) first = other;
  }
  if (threadIdx.x % WARP == 0) {
    values[threadIdx.x / WARP] = first.value;
    ids[threadIdx.x / WARP] = first.id;
  }
  __syncthreads();
  first = {values[0], ids[0]};
  for (unsigned warp = 1; warp < blockDim.x / WARP; warp++) {
    Candidate<A> other = {values[warp], ids[warp]};
    if (other.before(first)) first = other;
  }
  __syncthreads();
  return first;
}

// The first few of the candidates that a thread was offered, in registers.
template <class A> struct Shortlist {
  static const int KEPT = 4;
  Candidate<A> kept[KEPT];
  int taken;
  bool full;

  INLINE Shortlist() : taken(0), full(false) {
#pragma unroll
    for (int i = 0; i < KEPT; i++) kept[i] = {(A)-infinity(), NO_ID};
  }

  INLINE void offer(Candidate<A> one) {
    if (!one.before(kept[KEPT - 1])) return;
    kept[KEPT - 1] = one;
#pragma unroll
    for (int i = KEPT - 1; i > 0; i--) {
      if (kept[i].before(kept[i - 1])) {
        Candidate<A> later = kept[i - 1];
        kept[i - 1] = kept[i];
        kept[i] = later;
      }
    }
  }

  // Takes the first away.
  INLINE void take() {
    if (taken == 0) full = kept[KEPT - 1].id != NO_ID;
    taken++;
#pragma unroll
    for (int i = 1; i < KEPT; i++) kept[i - 1] = kept[i];
    kept[KEPT - 1] = {(A)-infinity(), NO_ID};
  }

  // Whether candidates that were not kept may be next.
  INLINE bool dry() const { return full && taken == KEPT; }
};

// Calls `work(j, candidate)` in every thread with the first `k` candidates of a row, in their order,
// from what each thread has kept of all of them. `k` is at most `width`.
template <class T, class F>
INLINE void for_likeliest(const T *row, i64 width, i64 k, Shortlist<acc<T>> list, F work) {
  for (i64 j = 0; j < k; j++) {
    Candidate<acc<T>> first = block_first(list.kept[0]);
    work(j, first);
    if (list.kept[0].id == first.id) list.take();
    // A thread had more of the first than it keeps: rare, and then the row is read again.
    if (j + 1 == k || block_least(list.dry() ? 0u : 1u) != 0) continue;
    list = Shortlist<acc<T>>();
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
      Candidate<acc<T>> one = candidate(widen(row[i]), i);
      if (first.before(one)) list.offer(one);
    }
  }
}
