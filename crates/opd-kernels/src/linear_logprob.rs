use candle_core::{CpuStorage, Shape, Tensor};

use crate::{
    Head, Projection, Result, TokenLogprobs,
    cpu::{
        columns::{Columns, ColumnsView},
        gemm::Gemm,
        token_rows::{STATISTICS, TokenRows},
    },
    gpu::{self, Gpu},
    linear_op::{self, Chunk, ChunkedLogits, LinearRows},
    logprob::{check_temperature, token_ids},
};

const OP: &str = "linear_token_logprobs";

/// [`token_logprobs`](crate::token_logprobs) of `hidden head^T`, without ever writing the
/// `[T, V]` logits: they exist for a chunk of rows at a time, and backward computes them again.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, one dtype (f32 or f64); `ids` is `[T]` (u32).
/// Differentiable with respect to `hidden` and `head`; the gradient of one that is not part of
/// a graph is not computed. Chunks are of a fixed size and merged in order, so results do not
/// depend on the number of threads.
///
/// Definition: [`reference::linear_token_logprobs`](crate::reference::linear_token_logprobs).
///
/// # Errors
///
/// As [`token_logprobs`](crate::token_logprobs).
pub fn linear_token_logprobs<'a>(
    hidden: &'a Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    temperature: f64,
) -> Result<TokenLogprobs> {
    check_temperature(OP, temperature)?;
    let student = Projection::new(hidden, head);
    let (rows, vocab) = student.check(OP)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    TokenLogprobs::from_columns(&linear_op::apply(student, Op { ids, temperature })?)
}

struct Op {
    ids: Vec<u32>,
    temperature: f64,
}

impl Op {
    fn rows(&self, width: usize) -> TokenRows<'_> {
        TokenRows { ids: &self.ids, width, temperature: self.temperature }
    }
}

impl Op {
    /// The ids of a chunk's rows, on its device.
    fn ids_of(&self, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let ids = &self.ids[chunk.rows.clone()];
        Ok(Tensor::from_slice(ids, ids.len(), chunk.logits.device())?)
    }
}

impl LinearRows for Op {
    const OP: &'static str = OP;

    fn forward<T: Gemm>(&self, logits: &ChunkedLogits<'_, T>) -> (CpuStorage, Shape) {
        let mut out = Columns::<T, STATISTICS>::new(logits.rows);
        logits.for_each(|Chunk { first, vocab, logits, .. }| {
            self.rows(vocab).forward(&mut out, first, logits);
        });
        out.into_storage()
    }

    fn backward<T: Gemm>(&self, chunk: Chunk<'_, T>, saved: &[T], upstream: &[T]) {
        let Chunk { first, vocab, logits, .. } = chunk;
        let (saved, upstream) = (ColumnsView::new(saved), ColumnsView::new(upstream));
        self.rows(vocab).backward(logits, first, None, saved, upstream);
    }

    fn gpu_forward(&self, gpu: &Gpu, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let ids = self.ids_of(chunk)?;
        gpu::token_rows::forward(gpu, chunk.logits, &ids, self.temperature)
    }

    fn gpu_backward(
        &self,
        gpu: &Gpu,
        chunk: &gpu::linear::Chunk<'_>,
        saved: &Tensor,
        upstream: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let rows = (chunk.logits, &self.ids_of(chunk)?);
        gpu::token_rows::backward(gpu, rows, saved, upstream, out, self.temperature)
    }
}
