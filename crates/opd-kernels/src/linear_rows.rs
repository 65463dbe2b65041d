use candle_core::{DType, Tensor};

use crate::{
    Head, Projection, Result,
    cpu::{
        Element, by_computed, check_ids, dispatch, map_chunks,
        projection::{Projected, chunks},
        softmax::RowStats,
        token_rows::rows_per_task,
    },
    error::Error,
    gpu::{self, Gpu},
    logprob::check_temperature,
    projection::{HeadValues, HiddenValues},
};

const OP: &str = "linear_row_logprobs";

/// What is asked of one row of hidden states.
#[derive(Clone, Copy, Debug)]
pub struct RowQuery<'a> {
    /// Logits are divided by this before the softmax; above 0.
    pub temperature: f64,
    /// Ids whose log-probs are wanted; may repeat.
    pub ids: &'a [u32],
    /// How many of the likeliest ids are wanted; at most the vocabulary.
    pub top: usize,
    /// Whether the rank of the first of `ids` is wanted.
    pub rank: bool,
}

/// The answer to a [`RowQuery`]; log-probs in nats.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLogprobs {
    /// `log softmax(logits / temperature)` of each of the query's ids, in its order.
    pub logprobs: Vec<f32>,
    /// The likeliest ids with their log-probs, likeliest first, ties by the lowest id.
    pub top: Vec<(u32, f32)>,
    /// How many ids have at least the logit of the query's first id (1: the likeliest).
    pub rank: Option<usize>,
}

/// Log-probs of any ids, and the likeliest ids, of each row of `hidden head^T`, each row with a
/// query of its own; logits exist for a chunk of rows at a time.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, one dtype (f32, f64, bf16 or f16),
/// `queries` has `T` entries. On a GPU each chunk of logits is copied to the CPU, which answers.
/// On the CPU a log-prob has the bits that
/// [`linear_token_logprobs`](crate::linear_token_logprobs) gives the same id. No graph is kept.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`]; [`Error::TokenId`] naming the row,
/// [`Error::Setting`] for a temperature or a `top`.
pub fn linear_row_logprobs<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    queries: &[RowQuery<'_>],
) -> Result<Vec<RowLogprobs>> {
    let Head { weight, products, .. } = head.into();
    let (rows, vocab) = Projection { hidden, head: Head::new(weight, products) }.check(OP)?;
    check(queries, rows, vocab)?;
    let (hidden, head) = (hidden.contiguous()?, weight.contiguous()?);
    let width = hidden.dims()[1];
    if let Some(gpu) = gpu::of(&hidden) {
        return on_gpu(&gpu, Projection::new(&hidden, &head), queries);
    }
    by_computed!(OP, hidden, T => {
        let hidden = HiddenValues::<T>::of(OP, &hidden)?;
        let head = HeadValues::<T>::of(OP, head.as_ref())?;
        let projected = Projected::new(hidden.rows(), (head.rows(), products), width, vocab);
        let mut answers = Vec::with_capacity(rows);
        let mut buffer = Vec::new();
        for chunk in chunks(rows, vocab) {
            let logits = &*projected.logits(&mut buffer, chunk.clone());
            answers.extend(chunk_answers(logits, vocab, &queries[chunk]));
        }
        Ok(answers)
    })
}

/// Logits of a chunk come to the CPU, which answers.
fn on_gpu(
    gpu: &Gpu,
    projection: Projection<'_>,
    queries: &[RowQuery<'_>],
) -> Result<Vec<RowLogprobs>> {
    let mut answers = Vec::with_capacity(queries.len());
    gpu::linear::for_each(gpu, OP, projection, None, |chunk| {
        let (vocab, logits) = (chunk.logits.dims()[1], chunk.logits.flatten_all()?);
        let queries = &queries[chunk.rows];
        match logits.dtype() {
            DType::F64 => answers.extend(chunk_answers(&logits.to_vec1::<f64>()?, vocab, queries)),
            _ => answers.extend(chunk_answers(&logits.to_vec1::<f32>()?, vocab, queries)),
        }
        Ok(())
    })?;
    Ok(answers)
}

fn check(queries: &[RowQuery<'_>], rows: usize, vocab: usize) -> Result<()> {
    if queries.len() != rows {
        let got = vec![queries.len()];
        return Err(Error::Shape { op: OP, what: "queries", expected: format!("[{rows}]"), got });
    }
    for (row, query) in queries.iter().enumerate() {
        check_temperature(OP, query.temperature)?;
        if query.top > vocab {
            let (what, got) = ("top", query.top as f64);
            let expected = "at most the vocabulary";
            return Err(Error::Setting { op: OP, what, expected, got });
        }
        check_ids(OP, query.ids, vocab).map_err(|error| match error {
            Error::TokenId { op, id, vocab, .. } => Error::TokenId { op, position: row, id, vocab },
            other => other,
        })?;
    }
    Ok(())
}

fn chunk_answers<T: Element>(
    logits: &[T],
    vocab: usize,
    queries: &[RowQuery<'_>],
) -> Vec<RowLogprobs> {
    let per_task = rows_per_task(vocab);
    let tasks = queries.len().div_ceil(per_task);
    let parts = map_chunks(tasks, logits.len(), |task| {
        let rows = logits.chunks_exact(vocab.max(1)).skip(task * per_task);
        let queries = queries.iter().skip(task * per_task).take(per_task);
        rows.zip(queries).map(|(row, query)| answer(row, query)).collect::<Vec<_>>()
    });
    parts.into_iter().flatten().collect()
}

fn answer<T: Element>(row: &[T], query: &RowQuery<'_>) -> RowLogprobs {
    let temperature = query.temperature;
    let stats = dispatch(
        #[inline(always)]
        || RowStats::of(row, temperature),
    );
    let logprob = |id: u32| {
        let value = stats.log_prob(row[id as usize].as_f64(), temperature);
        T::of(value).as_f64() as f32
    };
    let rank = query.ids.first().filter(|_| query.rank).map(|&id| {
        let logit = row[id as usize];
        row.iter().filter(|&&other| other >= logit).count()
    });
    RowLogprobs {
        logprobs: query.ids.iter().map(|&id| logprob(id)).collect(),
        top: likeliest(row, query.top).into_iter().map(|id| (id, logprob(id))).collect(),
        rank,
    }
}

/// The ids of the `k` largest logits, largest first, ties by the lowest id.
fn likeliest<T: Element>(row: &[T], k: usize) -> Vec<u32> {
    if k == 0 {
        return Vec::new();
    }
    // NaN ranks last, and -0 with 0: a total order.
    let key = |id: u32| {
        let logit = row[id as usize];
        if logit.is_nan() { f64::NEG_INFINITY } else { logit.as_f64() + 0.0 }
    };
    let order = |a: &u32, b: &u32| key(*b).total_cmp(&key(*a)).then(a.cmp(b));
    let room = (2 * k).max(64).min(row.len());
    let mut best: Vec<u32> = Vec::with_capacity(room);
    let mut least = None;
    for (id, &logit) in row.iter().enumerate() {
        if least.is_some_and(|least| logit <= least || logit.is_nan()) {
            continue;
        }
        best.push(id as u32);
        if best.len() == room && room > k {
            best.select_nth_unstable_by(k - 1, order);
            best.truncate(k);
            least = Some(row[best[k - 1] as usize]);
        }
    }
    best.sort_unstable_by(order);
    best.truncate(k);
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::likeliest;

    #[test]
    fn ties_go_to_the_lowest_id_and_nan_comes_last() {
        assert_eq!(likeliest(&[1.0f32, 3.0, 3.0, f32::NAN, 2.0], 3), [1, 2, 4]);
        assert_eq!(likeliest(&[0.0f32, -0.0, 0.0, -0.0], 4), [0, 1, 2, 3]);
        assert_eq!(likeliest(&[f32::NAN, f32::NEG_INFINITY, 0.0], 3), [2, 0, 1]);
        assert_eq!(likeliest(&[7.0f64; 300], 2), [0, 1]);
        assert!(likeliest::<f32>(&[], 0).is_empty());
    }

    proptest! {
        #[test]
        fn they_are_the_head_of_a_stable_sort(
            row in prop::collection::vec(-3i8..3, 1..700),
            share in 0.0f64..=1.0,
        ) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let k = (share * row.len() as f64) as usize;
            let mut sorted: Vec<u32> = (0..row.len() as u32).collect();
            sorted.sort_by(|a, b| row[*b as usize].partial_cmp(&row[*a as usize]).unwrap());
            prop_assert_eq!(&likeliest(&row, k), &sorted[..k]);
        }
    }
}
