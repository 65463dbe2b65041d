//! The bias of a head: added to rows of logits, and its gradient.

use rayon::prelude::*;

use super::{CHUNK_VALUES, Element, dispatch};

/// Adds `bias` to each of the rows of `logits`.
pub(crate) fn add_to_rows<T: Element>(logits: &mut [T], bias: &[T]) {
    let width = bias.len().max(1);
    let rows = (CHUNK_VALUES / width).max(1);
    logits.par_chunks_mut(rows * width).for_each(|rows| {
        dispatch(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(width) {
                    for (logit, bias) in row.iter_mut().zip(bias) {
                        *logit += *bias;
                    }
                }
            },
        );
    });
}

/// Adds the sums over rows of `[n, V]` to `sums`, first row to last, whatever the threads.
pub(crate) fn add_column_sums<T: Element>(sums: &mut [f64], rows: &[T]) {
    const COLUMNS: usize = 1024;
    let width = sums.len().max(1);
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(chunk, sums)| {
        dispatch(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(width) {
                    let row = &row[chunk * COLUMNS..][..sums.len()];
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += value.as_f64();
                    }
                }
            },
        );
    });
}
