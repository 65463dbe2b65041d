use std::ops::Range;

use candle_core::Tensor;

use crate::{
    Head, Projection, Result, TokenLogprobs,
    cpu::{
        self, by_computed,
        columns::{Columns, ColumnsView},
        gemm::Gemm,
        projection::{Projected, chunks},
        token_rows::{STATISTICS, TokenRows},
    },
    gpu::{self, Gpu, Recorded2},
    logprob::{check_temperature, token_ids},
    projection::{HeadValues, HiddenValues, ProjectionGradient},
    row_loss::loss_of_columns,
};

const OP: &str = "linear_row_loss";

/// A loss over rows, and what [`linear_row_loss`] computes beside it.
#[derive(Clone, Debug)]
pub struct RowLoss {
    /// The sum of the chunks' losses, a scalar; carries the graph.
    pub loss: Tensor,
    /// What the model says of each token; without a graph.
    pub tokens: TokenLogprobs,
    /// `dL/dhidden` `[T, H]`, if `hidden` is part of a graph: for a backward by hand, which spares
    /// the copies that candle's makes of gradients.
    pub hidden_gradient: Option<Tensor>,
    /// `dL/dhead` `[V, H]`, if `head` is part of a graph.
    pub head_gradient: Option<Tensor>,
}

/// The sum of a loss of each row's own log-prob, log-sum-exp and entropy under `hidden head^T`, with
/// the gradients finished chunk by chunk: three matrix products for each chunk of rows, where
/// [`linear_token_logprobs`](crate::linear_token_logprobs) and its backward take four.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, `ids` is `[T]` (u32). `loss` is called with each chunk of
/// rows, first to last, and what the model says of them (`[n]` each); it returns a scalar that depends
/// on these alone. It must divide by what the whole batch has, not by what the chunk has:
///
/// ```text
/// L = sum_chunks loss(rows, logprobs[rows], lse[rows], entropy[rows])
/// ```
///
/// The gradients of `hidden` and `head`, of those that are part of a graph, are ready when this
/// returns; backward multiplies them by the gradient of `L`. `L` and the gradients have the values of
/// the general form; the gradients have its bits where `loss` gives every row the bits of its gradient.
/// Rows that are not trained are best left out of `hidden` and `ids`: then no product has them.
///
/// # Errors
///
/// As [`linear_token_logprobs`](crate::linear_token_logprobs), and what `loss` fails with.
pub fn linear_row_loss<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    temperature: f64,
    loss: impl FnMut(Range<usize>, &TokenLogprobs) -> candle_core::Result<Tensor>,
) -> Result<RowLoss> {
    check_temperature(OP, temperature)?;
    let Head { weight, products, .. } = head.into();
    let (hidden, head) = (hidden.contiguous()?, weight.contiguous()?);
    let projection = Projection { hidden: &hidden, head: Head::new(&head, products) };
    let (rows, vocab) = projection.check(OP)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let mut chunks = Chunks { loss, parts: Vec::new(), columns: Vec::new() };
    let (dhidden, dhead) = match gpu::of(&hidden) {
        Some(gpu) => chunks.on_gpu(&gpu, projection, &ids, temperature)?,
        None => by_computed!(OP, hidden, T => {
            chunks.on_cpu::<T>(projection, &ids, temperature)
        })?,
    };
    let (value, columns) = chunks.finish(&hidden)?;
    let (hidden_gradient, head_gradient) = (dhidden.clone(), dhead.clone());
    let backward = move |_: &Tensor, _: &Tensor, _: &Tensor, upstream: &Tensor| {
        let scaled = |gradient: &Option<Tensor>| match gradient {
            Some(gradient) => {
                let upstream = upstream.to_dtype(gradient.dtype())?;
                Ok::<_, crate::Error>(Some(gradient.broadcast_mul(&upstream)?))
            }
            None => Ok(None),
        };
        Ok((scaled(&dhidden)?, scaled(&dhead)?))
    };
    // A head that is no tensor has no place in the graph.
    let head = head.as_ref().tensor().cloned().unwrap_or_else(|| hidden.detach());
    let loss = hidden.apply_op2(&head, Recorded2 { name: OP, value, backward })?;
    let tokens = TokenLogprobs::from_columns(&columns)?;
    Ok(RowLoss { loss, tokens, hidden_gradient, head_gradient })
}

struct Chunks<F> {
    loss: F,
    parts: Vec<Tensor>,
    columns: Vec<Tensor>,
}

impl<F: FnMut(Range<usize>, &TokenLogprobs) -> candle_core::Result<Tensor>> Chunks<F> {
    /// The gradient `[5, n]` of the loss by the statistics `[5, n]` of some rows.
    fn upstream(&mut self, rows: Range<usize>, columns: Tensor) -> Result<Tensor> {
        let (part, upstream) = loss_of_columns(&columns, |tokens| (self.loss)(rows, tokens))?;
        self.parts.push(part);
        self.columns.push(columns);
        Ok(upstream)
    }

    fn on_cpu<T: Gemm>(
        &mut self,
        Projection { hidden, head: Head { weight: head, products, .. } }: Projection<'_>,
        ids: &[u32],
        temperature: f64,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (vocab, width) = (head.dims()[0], head.dims()[1]);
        let mut gradient = ProjectionGradient::<T>::wanted(hidden, head);
        let (states, matrix) = (HiddenValues::<T>::of(OP, hidden)?, HeadValues::<T>::of(OP, head)?);
        let student = Projected::new(states.rows(), (matrix.rows(), products), width, vocab);
        let mut buffer = Vec::new();
        for rows in chunks(ids.len(), vocab) {
            let logits = student.logits(&mut buffer, rows.clone());
            let tokens = TokenRows { ids: &ids[rows.clone()], width: vocab, temperature };
            let mut columns = Columns::<T, STATISTICS>::new(rows.len());
            tokens.forward(&mut columns, 0, logits);
            let saved = columns.into_tensor()?;
            let upstream = self.upstream(rows.clone(), saved.clone())?;
            let (saved, upstream) = (cpu::view::<T>(OP, &saved)?, cpu::view::<T>(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            tokens.backward(logits, 0, None, saved, upstream);
            gradient.add(&student, logits, rows);
        }
        gradient.finish(hidden, head)
    }

    fn on_gpu(
        &mut self,
        gpu: &Gpu,
        student: Projection<'_>,
        ids: &[u32],
        temperature: f64,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (hidden, head) = (student.hidden, student.head.on_gpu(OP)?);
        let mut gradient = gpu::linear::Gradient::wanted(hidden, head)?;
        gpu::linear::for_each(gpu, OP, student, None, |chunk| {
            let ids = &ids[chunk.rows.clone()];
            let ids = Tensor::from_slice(ids, ids.len(), hidden.device())?;
            let saved = gpu::token_rows::forward(gpu, chunk.logits, &ids, temperature)?;
            let upstream = self.upstream(chunk.rows.clone(), saved.clone())?;
            let out = gpu::linear::room(chunk.logits, hidden.dtype())?;
            let rows = (chunk.logits, &ids);
            gpu::token_rows::backward(gpu, rows, &saved, &upstream, &out, temperature)?;
            gradient.add(gpu, OP, student, &out, &chunk.rows)
        })?;
        gradient.finish(hidden, head)
    }

    /// The sum of the losses, and the statistics `[5, T]`.
    fn finish(self, hidden: &Tensor) -> Result<(Tensor, Tensor)> {
        let dtype = gpu::accumulator(hidden.dtype());
        if self.parts.is_empty() {
            let zero = Tensor::zeros((), dtype, hidden.device())?;
            return Ok((zero, Tensor::zeros((STATISTICS, 0), dtype, hidden.device())?));
        }
        let total = Tensor::stack(&self.parts, 0)?.sum_all()?;
        Ok((total, Tensor::cat(&self.columns, 1)?))
    }
}
