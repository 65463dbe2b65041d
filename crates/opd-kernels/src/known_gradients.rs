//! Losses of rows whose gradient depends on what is known of that row alone, so that it is finished as soon as
//! the row's statistics are there.

use std::ops::Range;

use candle_core::{Tensor, Var};

use crate::{
    DivergenceOutput, Projection, Result, TokenLogprobs,
    cpu::{divergence_rows, token_rows},
    gpu,
    linear_op::record,
    projection::{Gradients, Operands},
};

/// What a kernel says of rows, from its columns `[COLUMNS, n]`: the first three are differentiable.
pub(crate) trait RowStatistics: Sized {
    const COLUMNS: usize;

    fn of_columns(columns: &Tensor) -> Result<Self>;

    /// In the order of the columns.
    fn differentiable(&mut self) -> [&mut Tensor; 3];
}

impl RowStatistics for TokenLogprobs {
    const COLUMNS: usize = token_rows::STATISTICS;

    fn of_columns(columns: &Tensor) -> Result<Self> {
        Self::from_columns(columns)
    }

    fn differentiable(&mut self) -> [&mut Tensor; 3] {
        [&mut self.logprobs, &mut self.lse, &mut self.entropy]
    }
}

impl RowStatistics for DivergenceOutput {
    const COLUMNS: usize = divergence_rows::STATISTICS;

    fn of_columns(columns: &Tensor) -> Result<Self> {
        Self::from_columns(columns)
    }

    fn differentiable(&mut self) -> [&mut Tensor; 3] {
        [&mut self.divergence, &mut self.student_entropy, &mut self.student_logprobs]
    }
}

/// A loss of the statistics `[N, n]` of some rows, without a graph, and its gradient `[N, n]`.
pub(crate) fn loss_of_columns<S: RowStatistics>(
    columns: &Tensor,
    loss: impl FnOnce(&S) -> candle_core::Result<Tensor>,
) -> Result<(Tensor, Tensor)> {
    let mut rows = S::of_columns(columns)?;
    let leaf = |i| Var::from_tensor(&columns.get(i)?);
    let leaves = [leaf(0)?, leaf(1)?, leaf(2)?];
    for (part, leaf) in rows.differentiable().into_iter().zip(&leaves) {
        *part = leaf.as_tensor().clone();
    }
    let loss = loss(&rows)?;
    let store = loss.backward()?;
    let mut upstream = vec![columns.get(0)?.zeros_like()?; S::COLUMNS];
    for (upstream, leaf) in upstream.iter_mut().zip(&leaves) {
        if let Some(gradient) = store.get(leaf.as_tensor()) {
            *upstream = gradient.clone();
        }
    }
    Ok((loss.detach(), Tensor::stack(&upstream, 0)?.contiguous()?))
}

/// A loss that is called with one chunk of rows after the other, and what it has said.
pub(crate) struct ChunkLosses<F> {
    loss: F,
    parts: Vec<Tensor>,
    columns: Vec<Tensor>,
}

impl<F> ChunkLosses<F> {
    pub(crate) fn new(loss: F) -> Self {
        Self { loss, parts: Vec::new(), columns: Vec::new() }
    }

    /// The gradient `[N, n]` of the loss by the statistics `[N, n]` of the next rows.
    pub(crate) fn upstream<S: RowStatistics>(
        &mut self,
        rows: Range<usize>,
        columns: &Tensor,
    ) -> Result<Tensor>
    where
        F: FnMut(Range<usize>, &S) -> candle_core::Result<Tensor>,
    {
        let (part, upstream) = loss_of_columns(columns, |tokens| (self.loss)(rows, tokens))?;
        self.parts.push(part);
        self.columns.push(columns.clone());
        Ok(upstream)
    }

    /// The sum of the losses, whose backward gives `gradients`, and the statistics of all rows.
    pub(crate) fn finish<S: RowStatistics>(
        self,
        op: &'static str,
        operands: Operands,
        gradients: Gradients,
    ) -> Result<(Tensor, S)> {
        let (dtype, device) = (gpu::accumulator(operands.hidden.dtype()), operands.hidden.device());
        let (value, columns) = match self.parts.is_empty() {
            true => {
                let none = Tensor::zeros((S::COLUMNS, 0), dtype, device)?;
                (Tensor::zeros((), dtype, device)?, none)
            }
            false => (Tensor::stack(&self.parts, 0)?.sum_all()?, Tensor::cat(&self.columns, 1)?),
        };
        let backward =
            move |_: Projection<'_>, _: &Tensor, upstream: &Tensor| gradients.scaled(upstream);
        Ok((record(op, operands, value, backward)?, S::of_columns(&columns)?))
    }
}
