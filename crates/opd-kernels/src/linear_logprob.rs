use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor, backend::BackendStorage};

use crate::{
    Projection, Result, TokenLogprobs,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView, argument},
        projection::{Projected, chunks},
        token_rows::{STATISTICS, TokenRows},
    },
    logprob::{check_temperature, token_ids},
    projection::ProjectionGradient,
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
pub fn linear_token_logprobs(
    hidden: &Tensor,
    head: &Tensor,
    ids: &Tensor,
    temperature: f64,
) -> Result<TokenLogprobs> {
    check_temperature(OP, temperature)?;
    let (rows, vocab) = Projection { hidden, head }.check(OP)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let (hidden, head) = (hidden.contiguous()?, head.contiguous()?);
    TokenLogprobs::from_columns(&hidden.apply_op2(&head, Op { ids, temperature })?)
}

struct Op {
    ids: Vec<u32>,
    temperature: f64,
}

impl Op {
    fn rows(&self, width: usize) -> TokenRows<'_> {
        TokenRows { ids: &self.ids, width, temperature: self.temperature }
    }

    fn forward(
        &self,
        hidden: (&CpuStorage, &Layout),
        head: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = hidden.1.shape().dims2()?;
        let (vocab, _) = head.1.shape().dims2()?;
        let storage = hidden.0;
        by_dtype!(OP, storage, T => {
            let hidden = argument::<T>(OP, hidden.0, hidden.1)?;
            let head = argument::<T>(OP, head.0, head.1)?;
            let projected = Projected { hidden, head, width, vocab };
            let mut out = Columns::<T, STATISTICS>::new(rows);
            let mut buffer = Vec::new();
            for chunk in chunks(rows, vocab) {
                let first = chunk.start;
                self.rows(vocab).forward(&mut out, first, projected.logits(&mut buffer, chunk));
            }
            Ok(out.into_storage())
        })
    }

    fn backward(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, width) = hidden.dims2()?;
        let (vocab, _) = head.dims2()?;
        let upstream = upstream.contiguous()?;
        by_dtype!(OP, hidden, T => {
            let mut gradient = ProjectionGradient::<T>::wanted(hidden, head);
            let (hidden_view, head_view) = (cpu::view::<T>(OP, hidden)?, cpu::view::<T>(OP, head)?);
            let projected = Projected { hidden: &hidden_view, head: &head_view, width, vocab };
            let (saved, upstream) = (cpu::view::<T>(OP, saved)?, cpu::view::<T>(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            let mut buffer = Vec::new();
            for chunk in chunks(rows, vocab) {
                let logits = projected.logits(&mut buffer, chunk.clone());
                self.rows(vocab).backward(logits, chunk.start, None, saved, upstream);
                gradient.add(&projected, logits, chunk);
            }
            gradient.finish(hidden, head)
        })
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        head: &CpuStorage,
        head_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.forward((hidden, hidden_layout), (head, head_layout))?)
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(self.backward(hidden, head, saved, upstream)?)
    }
}
