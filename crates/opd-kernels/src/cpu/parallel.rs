use rayon::prelude::*;

use super::Element;

/// Rows per unit of parallel work.
///
/// Partial sums are formed per unit and merged in order, so results do not depend on the
/// number of threads.
const CHUNK_ROWS: usize = 64;

/// Values per unit of parallel work in loops that know no rows.
pub(crate) const CHUNK_VALUES: usize = 16 * 1024;

/// Below this many values a loop over them costs less than waking another thread.
const SERIAL_VALUES: usize = 8 * 1024;

/// Runs `work(i)` for `i` in `0..n_chunks`, in parallel if `values` in all make that worth
/// while, and returns the results in order.
pub(crate) fn map_chunks<R: Send>(
    n_chunks: usize,
    values: usize,
    work: impl Fn(usize) -> R + Send + Sync,
) -> Vec<R> {
    if n_chunks <= 1 || values < SERIAL_VALUES {
        return (0..n_chunks).map(work).collect();
    }
    (0..n_chunks).into_par_iter().map(work).collect()
}

/// Runs `work(first_row, rows)` over chunks of [`CHUNK_ROWS`] rows of `out`.
pub(crate) fn for_rows<T: Send>(
    out: &mut [T],
    width: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    if width == 0 {
        return;
    }
    let serial = out.len() < SERIAL_VALUES;
    let chunks = out.par_chunks_mut(CHUNK_ROWS * width).enumerate();
    if serial {
        return work(0, out);
    }
    chunks.for_each(|(i, rows)| work(i * CHUNK_ROWS, rows));
}

/// As [`for_rows`], returning what each chunk gives, in order.
///
/// The cut into chunks is the same whether or not it runs in parallel.
pub(crate) fn map_rows<T: Send, R: Send>(
    out: &mut [T],
    width: usize,
    work: impl Fn(usize, &mut [T]) -> R + Send + Sync,
) -> Vec<R> {
    if width == 0 {
        return Vec::new();
    }
    let size = CHUNK_ROWS * width;
    if out.len() < SERIAL_VALUES {
        let chunks = out.chunks_mut(size).enumerate();
        return chunks.map(|(i, rows)| work(i * CHUNK_ROWS, rows)).collect();
    }
    let chunks = out.par_chunks_mut(size).enumerate();
    chunks.map(|(i, rows)| work(i * CHUNK_ROWS, rows)).collect()
}

/// As [`for_rows`] over two outputs with one row each per input row.
pub(crate) fn for_rows_of_two<T: Send>(
    (a, a_width): (&mut [T], usize),
    (b, b_width): (&mut [T], usize),
    work: impl Fn(usize, &mut [T], &mut [T]) + Send + Sync,
) {
    if a_width == 0 || b_width == 0 {
        return;
    }
    if a.len() + b.len() < SERIAL_VALUES {
        return work(0, a, b);
    }
    let pairs = a.par_chunks_mut(CHUNK_ROWS * a_width).zip(b.par_chunks_mut(CHUNK_ROWS * b_width));
    pairs.enumerate().for_each(|(i, (a, b))| work(i * CHUNK_ROWS, a, b));
}

/// Sums vectors of `width` values, first to last.
pub(crate) fn sum_in_order<T: Element>(parts: Vec<Vec<T>>, width: usize) -> Vec<T> {
    let mut sum = vec![T::ZERO; width];
    for part in parts {
        for (sum, value) in sum.iter_mut().zip(part) {
            *sum += value;
        }
    }
    sum
}
