// Causal attention over packed spans, with scores that exist for 32 keys at a time.
//
// A span's queries see its prefix and then its keys, as one list. Rows of scores are one vector of
// queries each; the vectors of a span at one key head are its queries times the query heads of the
// group. Sums run in the order of the keys, so a row does not depend on the rows beside it. A lane holds
// DEPTH values of a head.
#include "include/block.cuh"

// Vectors of one block: one for each warp.
#define VECTORS 8

// Span `s` in a table of [n, 6]: first query, queries, first row of the prefix, its rows, first key, keys.
struct SpanOf {
  i64 query, queries, prefix, prefix_len, key, keys;

  INLINE SpanOf(const unsigned *spans, i64 s) {
    const unsigned *span = spans + 6 * s;
    query = span[0], queries = span[1], prefix = span[2];
    prefix_len = span[3], key = span[4], keys = span[5];
  }

  // Keys that query `i` sees.
  INLINE i64 visible(i64 i) const { return prefix_len + keys - queries + i + 1; }
  // Row of key `j` of those it sees.
  INLINE i64 row(i64 j) const { return j < prefix_len ? prefix + j : key + j - prefix_len; }
};

// Rows of heads: `row * stride + head * dim`.
template <class T> struct Rows {
  const T *values;
  i64 stride;

  INLINE const T *at(i64 row, i64 head, i64 dim) const { return values + row * stride + head * dim; }
};

// Copies `n` rows to shared memory, one value more apart than they are long, so that lanes that each
// read a row of their own do not meet in one bank; rows from `n` to 32 are 0.
template <class T, class F> INLINE void load_tile(acc<T> *tile, i64 n, i64 dim, F row) {
  for (i64 j = threadIdx.x / WARP; j < WARP; j += blockDim.x / WARP) {
    const T *from = j < n ? row(j) : nullptr;
    for (i64 d = threadIdx.x % WARP; d < dim; d += WARP)
      tile[j * (dim + 1) + d] = from ? widen(from[d]) : 0;
  }
}

// Calls `work` with the depth, 4 or 8, that heads of `dim` values need.
template <int N> struct Depth {
  static const int VALUE = N;
};
template <class F> INLINE void with_depth(i64 dim, F work) {
  if (dim <= 4 * WARP) return work(Depth<4>());
  work(Depth<8>());
}

template <class A> INLINE A product(const A *a, const A *b, i64 dim) {
  A sum = 0;
  for (i64 d = 0; d < dim; d++) sum += a[d] * b[d];
  return sum;
}

// One block for each entry of `tiles` (span and first vector) and key head. Rows that no span queries
// must be 0 before.
template <class T, int DEPTH>
INLINE void attention(Rows<T> q, Rows<T> k, Rows<T> v, const unsigned *spans, const unsigned *tiles,
                      T *out, acc<T> *lse, i64 heads, i64 kv_heads, i64 dim) {
  typedef acc<T> A;
  BLOCK_MEMORY(A, memory);
  A *tile = memory, *queries = memory + WARP * (dim + 1);
  i64 group = heads / kv_heads, kv_head = blockIdx.y;
  SpanOf span(spans, tiles[2 * blockIdx.x]);
  i64 lane = threadIdx.x % WARP, first = tiles[2 * blockIdx.x + 1];
  i64 vector = first + threadIdx.x / WARP, end = span.queries * group;
  bool present = vector < end;
  i64 row = span.query + vector / group, head = kv_head * group + vector % group;
  i64 visible = present ? span.visible(vector / group) : 0;
  i64 last = first + VECTORS < end ? first + VECTORS - 1 : end - 1;
  i64 most = span.visible(last / group);
  A *query = queries + threadIdx.x / WARP * dim;
  A scale = (A)(1 / sqrt((double)dim));
  for (i64 d = lane; d < dim; d += WARP) query[d] = present ? widen(q.at(row, head, dim)[d]) : 0;
  A sums[DEPTH] = {}, max = (A)-infinity(), total = 0;
  for (i64 start = 0; start < most; start += WARP) {
    i64 n = most - start < WARP ? most - start : WARP;
    __syncthreads();
    load_tile<T>(tile, n, dim, [&](i64 j) { return k.at(span.row(start + j), kv_head, dim); });
    __syncthreads();
    bool seen = start + lane < visible;
    A score = product(query, tile + lane * (dim + 1), dim) * scale;
    __syncthreads();
    load_tile<T>(tile, n, dim, [&](i64 j) { return v.at(span.row(start + j), kv_head, dim); });
    __syncthreads();
    // NaN must not hide behind the maximum of the others.
    A largest = warp_largest(seen ? score : (A)-infinity());
    A next = larger(max, largest);
    A shift = next == (A)-infinity() ? 0 : next;
    A p = seen ? exp_of(score - shift) : 0;
    A factor = exp_of(max - shift);
    total = total * factor + warp_sum(p);
    for (int c = 0; c < DEPTH; c++) sums[c] *= factor;
    for (int j = 0; j < WARP; j++) {
      A weight = __shfl_sync(ALL_LANES, p, j);
      for (int c = 0; c < DEPTH; c++)
        if (lane + c * WARP < dim) sums[c] += weight * tile[j * (dim + 1) + lane + c * WARP];
    }
    max = next;
  }
  if (!present) return;
  T *to = out + (row * heads + head) * dim;
  for (int c = 0; c < DEPTH; c++)
    if (lane + c * WARP < dim) to[lane + c * WARP] = narrow<T>(sums[c] / total);
  if (lane == 0) lse[row * heads + head] = max + log_of(total);
}

// delta[row][head] = sum_d dout out: one warp for each.
template <class T>
INLINE void attention_delta(const T *out, const T *dout, acc<T> *delta, i64 n, i64 dim) {
  i64 index = (i64)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (index >= n) return;
  acc<T> sum = 0;
  for (i64 d = threadIdx.x % WARP; d < dim; d += WARP)
    sum += widen(out[index * dim + d]) * widen(dout[index * dim + d]);
  sum = warp_sum(sum);
  if (threadIdx.x % WARP == 0) delta[index] = sum;
}

// Gradient of the queries; blocks as in `attention`.
//
// p = exp(scale q k - lse),  ds = p (dout v - delta) scale,  dq = sum_keys ds k
template <class T, int DEPTH>
INLINE void attention_queries(Rows<T> q, Rows<T> k, Rows<T> v, Rows<T> dout, const acc<T> *lse,
                              const acc<T> *delta, const unsigned *spans, const unsigned *tiles,
                              T *dqkv, i64 heads, i64 kv_heads, i64 dim) {
  typedef acc<T> A;
  BLOCK_MEMORY(A, memory);
  i64 group = heads / kv_heads, kv_head = blockIdx.y;
  A *keys = memory, *queries = memory + WARP * (dim + 1), *douts = queries + VECTORS * dim;
  SpanOf span(spans, tiles[2 * blockIdx.x]);
  i64 lane = threadIdx.x % WARP, first = tiles[2 * blockIdx.x + 1];
  i64 vector = first + threadIdx.x / WARP, end = span.queries * group;
  bool present = vector < end;
  i64 row = span.query + vector / group, head = kv_head * group + vector % group;
  i64 visible = present ? span.visible(vector / group) : 0;
  i64 last = first + VECTORS < end ? first + VECTORS - 1 : end - 1;
  i64 most = span.visible(last / group);
  A *query = queries + threadIdx.x / WARP * dim, *g = douts + threadIdx.x / WARP * dim;
  A scale = (A)(1 / sqrt((double)dim));
  for (i64 d = lane; d < dim; d += WARP) {
    query[d] = present ? widen(q.at(row, head, dim)[d]) : 0;
    g[d] = present ? widen(dout.at(row, head, dim)[d]) : 0;
  }
  A log_sum = present ? lse[row * heads + head] : 0, pull = present ? delta[row * heads + head] : 0;
  A sums[DEPTH] = {};
  for (i64 start = 0; start < most; start += WARP) {
    i64 n = most - start < WARP ? most - start : WARP;
    __syncthreads();
    load_tile<T>(keys, n, dim, [&](i64 j) { return v.at(span.row(start + j), kv_head, dim); });
    __syncthreads();
    A dp = product(g, keys + lane * (dim + 1), dim);
    __syncthreads();
    load_tile<T>(keys, n, dim, [&](i64 j) { return k.at(span.row(start + j), kv_head, dim); });
    __syncthreads();
    A p = exp_of(product(query, keys + lane * (dim + 1), dim) * scale - log_sum);
    A ds = start + lane < visible ? p * (dp - pull) * scale : 0;
    for (int j = 0; j < WARP; j++) {
      A weight = __shfl_sync(ALL_LANES, ds, j);
      for (int c = 0; c < DEPTH; c++)
        if (lane + c * WARP < dim) sums[c] += weight * keys[j * (dim + 1) + lane + c * WARP];
    }
  }
  if (!present) return;
  T *to = dqkv + (row * (heads + 2 * kv_heads) + head) * dim;
  for (int c = 0; c < DEPTH; c++)
    if (lane + c * WARP < dim) to[lane + c * WARP] = narrow<T>(sums[c]);
}

// Gradients of keys and values: a block has VECTORS key rows, one for each warp, at a key head, and
// takes all queries that may see one of them: entries `starts[block]..starts[block + 1]` of `readers`,
// [n, 2]: span, and 0 for its prefix or 1 for its keys.
template <class T, int DEPTH>
INLINE void attention_keys(Rows<T> q, Rows<T> k, Rows<T> v, Rows<T> dout, const acc<T> *lse,
                           const acc<T> *delta, const unsigned *spans, const unsigned *starts,
                           const unsigned *readers, T *dqkv, i64 n_keys, i64 heads, i64 kv_heads,
                           i64 dim) {
  typedef acc<T> A;
  BLOCK_MEMORY(A, memory);
  i64 group = heads / kv_heads, kv_head = blockIdx.y, lane = threadIdx.x % WARP;
  A *queries = memory, *keys = memory + WARP * (dim + 1), *values = keys + VECTORS * dim;
  i64 row = (i64)blockIdx.x * VECTORS + threadIdx.x / WARP;
  bool present = row < n_keys;
  A *key = keys + threadIdx.x / WARP * dim, *value = values + threadIdx.x / WARP * dim;
  for (i64 d = lane; d < dim; d += WARP) {
    key[d] = present ? widen(k.at(row, kv_head, dim)[d]) : 0;
    value[d] = present ? widen(v.at(row, kv_head, dim)[d]) : 0;
  }
  A scale = (A)(1 / sqrt((double)dim)), dkey[DEPTH] = {}, dvalue[DEPTH] = {};
  for (unsigned reader = starts[blockIdx.x]; reader < starts[blockIdx.x + 1]; reader++) {
    SpanOf span(spans, readers[2 * reader]);
    bool own = readers[2 * reader + 1] == 1;
    i64 offset = row - (own ? span.key : span.prefix);
    bool inside = present && offset >= 0 && offset < (own ? span.keys : span.prefix_len);
    // The first query that sees this key.
    i64 from = own ? offset - (span.keys - span.queries) : 0;
    for (i64 start = 0; start < span.queries * group; start += WARP) {
      i64 end = span.queries * group, n = end - start < WARP ? end - start : WARP;
      i64 vector = start + lane;
      i64 at = (span.query + vector / group) * heads + kv_head * group + vector % group;
      bool seen = inside && vector < end && vector / group >= from;
      auto head = [&](const Rows<T> &rows, i64 j) {
        i64 index = start + j;
        return rows.at(span.query + index / group, kv_head * group + index % group, dim);
      };
      __syncthreads();
      load_tile<T>(queries, n, dim, [&](i64 j) { return head(q, j); });
      __syncthreads();
      A p = seen ? exp_of(product(key, queries + lane * (dim + 1), dim) * scale - lse[at]) : 0;
      __syncthreads();
      load_tile<T>(queries, n, dim, [&](i64 j) { return head(dout, j); });
      __syncthreads();
      A dp = product(value, queries + lane * (dim + 1), dim);
      A ds = seen ? p * (dp - delta[at]) * scale : 0;
      for (int j = 0; j < WARP; j++) {
        A weight = __shfl_sync(ALL_LANES, p, j);
        for (int c = 0; c < DEPTH; c++)
          if (lane + c * WARP < dim) dvalue[c] += weight * queries[j * (dim + 1) + lane + c * WARP];
      }
      __syncthreads();
      load_tile<T>(queries, n, dim, [&](i64 j) { return head(q, j); });
      __syncthreads();
      for (int j = 0; j < WARP; j++) {
        A weight = __shfl_sync(ALL_LANES, ds, j);
        for (int c = 0; c < DEPTH; c++)
          if (lane + c * WARP < dim) dkey[c] += weight * queries[j * (dim + 1) + lane + c * WARP];
      }
    }
  }
  if (!present) return;
  T *to = dqkv + (row * (heads + 2 * kv_heads) + heads + kv_head) * dim;
  for (int c = 0; c < DEPTH; c++) {
    if (lane + c * WARP < dim) {
      to[lane + c * WARP] = narrow<T>(dkey[c]);
      to[kv_heads * dim + lane + c * WARP] = narrow<T>(dvalue[c]);
    }
  }
}

#define ATTENTION(dtype, T)                                                                       \
  KERNEL attention_##dtype(const T *q, i64 q_stride, const T *k, i64 k_stride, const T *v,        \
                           i64 v_stride, const unsigned *spans, const unsigned *tiles, T *out,    \
                           acc<T> *lse, i64 heads, i64 kv_heads, i64 dim) {                       \
    with_depth(dim, [&](auto depth) {                                                             \
      attention<T, decltype(depth)::VALUE>({q, q_stride}, {k, k_stride}, {v, v_stride}, spans,    \
                                           tiles, out, lse, heads, kv_heads, dim);                \
    });                                                                                           \
  }                                                                                               \
  EXPORT(attention_##dtype)                                                                       \
  KERNEL attention_delta_##dtype(const T *out, const T *dout, acc<T> *delta, i64 n, i64 dim) {    \
    attention_delta<T>(out, dout, delta, n, dim);                                                 \
  }                                                                                               \
  EXPORT(attention_delta_##dtype)                                                                 \
  KERNEL attention_queries_##dtype(const T *qkv, const T *dout, const acc<T> *lse,                \
                                   const acc<T> *delta, const unsigned *spans,                    \
                                   const unsigned *tiles, T *dqkv, i64 heads, i64 kv_heads,       \
                                   i64 dim) {                                                     \
    i64 stride = (heads + 2 * kv_heads) * dim;                                                    \
    with_depth(dim, [&](auto depth) {                                                             \
      attention_queries<T, decltype(depth)::VALUE>(                                               \
          {qkv, stride}, {qkv + heads * dim, stride}, {qkv + (heads + kv_heads) * dim, stride},   \
          {dout, heads * dim}, lse, delta, spans, tiles, dqkv, heads, kv_heads, dim);             \
    });                                                                                           \
  }                                                                                               \
  EXPORT(attention_queries_##dtype)                                                               \
  KERNEL attention_keys_##dtype(const T *qkv, const T *dout, const acc<T> *lse,                   \
                                const acc<T> *delta, const unsigned *spans,                       \
                                const unsigned *starts, const unsigned *readers, T *dqkv,         \
                                i64 n_keys, i64 heads, i64 kv_heads, i64 dim) {                   \
    i64 stride = (heads + 2 * kv_heads) * dim;                                                    \
    with_depth(dim, [&](auto depth) {                                                             \
      attention_keys<T, decltype(depth)::VALUE>(                                                  \
          {qkv, stride}, {qkv + heads * dim, stride}, {qkv + (heads + kv_heads) * dim, stride},   \
          {dout, heads * dim}, lse, delta, spans, starts, readers, dqkv, n_keys, heads, kv_heads, \
          dim);                                                                                   \
    });                                                                                           \
  }                                                                                               \
  EXPORT(attention_keys_##dtype)

FOR_DTYPES(ATTENTION)
