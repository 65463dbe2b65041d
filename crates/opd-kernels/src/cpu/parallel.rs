use rayon::prelude::*;

/// Rows per unit of parallel work.
///
/// Partial sums are formed per unit and merged in order, so results do not depend on the
/// number of threads.
pub(crate) const CHUNK_ROWS: usize = 64;

/// Runs `work(i)` for `i` in `0..n_chunks`, in parallel, and returns the results in order.
pub(crate) fn for_each_chunk<R: Send>(
    n_chunks: usize,
    work: impl Fn(usize) -> R + Send + Sync,
) -> Vec<R> {
    if n_chunks <= 1 {
        return (0..n_chunks).map(work).collect();
    }
    (0..n_chunks).into_par_iter().map(work).collect()
}
