use candle_core::{DType, Tensor};

use crate::{
    Head, Projection, Result,
    cpu::{
        Element, by_computed, check_ids, dispatch, likeliest::Likeliest, map_chunks,
        projection::chunks, soft_cap::Uncapped, softmax::RowStats, token_rows::rows_per_task,
    },
    error::Error,
    gpu::{self, Gpu},
    logprob::check_temperature,
    projection::{Operands, ProjectionView},
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
    let projection = Projection { hidden, head: head.into() };
    let (rows, vocab) = projection.check(OP)?;
    check(queries, rows, vocab)?;
    let operands = Operands::of(projection)?;
    if let Some(gpu) = gpu::of(hidden) {
        return on_gpu(&gpu, operands.projection(), queries);
    }
    by_computed!(OP, hidden, T => {
        let view = ProjectionView::<T>::of(OP, operands.projection())?;
        let projected = view.projected();
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
    let read = gpu::linear::Read::of(OP, projection)?;
    gpu::linear::for_each(gpu, OP, &read, None, |chunk| {
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
    let mut likeliest = Likeliest::new(query.top, row.len());
    let stats = dispatch(
        #[inline(always)]
        || {
            RowStats::scan::<T, false>(
                row,
                temperature,
                Uncapped,
                #[inline(always)]
                |first, block, largest| likeliest.take(first, block, largest),
            )
        },
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
        top: likeliest.finish().map(|(id, _)| (id, logprob(id))).collect(),
        rank,
    }
}
