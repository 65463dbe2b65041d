// Rows of a table by their numbers: read, added to, replaced. One block for each number.
#include "include/block.cuh"

template <class T>
INLINE void gather_rows(const T *table, const unsigned *ids, T *out, i64 width) {
  const T *from = table + (i64)ids[blockIdx.x] * width;
  T *to = out + (i64)blockIdx.x * width;
  for (i64 i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

// sums[ids[t]] += rows[t] in the order of t, rounded once: the block of an id's first place adds all its rows,
// some columns of each thread at a time.
template <class T>
INLINE void scatter_add_rows(T *sums, const unsigned *ids, const T *rows, i64 n, i64 width) {
  constexpr int COLUMNS = 16;
  __shared__ unsigned matches[1024];
  i64 place = blockIdx.x;
  unsigned id = ids[place], earlier = ~0u;
  for (i64 i = threadIdx.x; i < place; i += blockDim.x)
    if (ids[i] == id) earlier = 0;
  if (block_least(earlier) == 0) return;
  T *sum = sums + (i64)id * width;
  for (i64 start = 0; start < width; start += COLUMNS * blockDim.x) {
    i64 column = start + threadIdx.x;
    acc<T> values[COLUMNS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      i64 at = column + c * blockDim.x;
      values[c] = at < width ? widen(sum[at]) : acc<T>(0);
    }
    for (i64 first = place; first < n; first += blockDim.x) {
      i64 mine = first + threadIdx.x;
      bool match = mine < n && ids[mine] == id;
      matches[threadIdx.x] = match;
      // Also keeps the next round from writing what is still being read.
      if (block_least(match ? 0u : 1u) != 0) continue;
      i64 end = first + blockDim.x < n ? first + blockDim.x : n;
      for (i64 t = first; t < end; t++) {
        if (!matches[t - first]) continue;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
          i64 at = column + c * blockDim.x;
          if (at < width) values[c] += widen(rows[t * width + at]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      i64 at = column + c * blockDim.x;
      if (at < width) sum[at] = narrow<T>(values[c]);
    }
  }
}

// cache[numbers[i]] = source[i]; of two with one number the last. Rows of `source` are `stride` apart.
template <class T>
INLINE void write_rows(T *cache, const unsigned *numbers, const T *source, i64 n, i64 width,
                       i64 stride) {
  unsigned number = numbers[blockIdx.x], later = ~0u;
  for (i64 i = (i64)blockIdx.x + 1 + threadIdx.x; i < n; i += blockDim.x)
    if (numbers[i] == number) later = 0;
  if (block_least(later) == 0) return;
  T *to = cache + (i64)number * width;
  const T *from = source + (i64)blockIdx.x * stride;
  for (i64 i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

#define ROWS(dtype, T)                                                                             \
  KERNEL gather_rows_##dtype(const T *table, const unsigned *ids, T *out, i64 width) {             \
    gather_rows<T>(table, ids, out, width);                                                        \
  }                                                                                                \
  EXPORT(gather_rows_##dtype)                                                                      \
  KERNEL scatter_add_rows_##dtype(T *sums, const unsigned *ids, const T *rows, i64 n, i64 width) { \
    scatter_add_rows<T>(sums, ids, rows, n, width);                                                \
  }                                                                                                \
  EXPORT(scatter_add_rows_##dtype)                                                                 \
  KERNEL write_rows_##dtype(T *cache, const unsigned *numbers, const T *source, i64 n, i64 width,  \
                            i64 stride) {                                                          \
    write_rows<T>(cache, numbers, source, n, width, stride);                                       \
  }                                                                                                \
  EXPORT(write_rows_##dtype)

FOR_DTYPES(ROWS)
