use candle_core::{CpuStorage, Shape, Tensor};

use crate::{
    Divergence, DivergenceOutput, Projection, Result,
    cpu::{
        columns::{Columns, ColumnsView},
        divergence_rows::{DivergenceRows, STATISTICS},
        gemm::Gemm,
    },
    divergence::check_projections,
    gpu::{self, Gpu},
    linear_op::{self, Chunk, ChunkedLogits, Frozen, LinearRows},
    logprob::{check_temperature, token_ids},
};

const OP: &str = "linear_divergence";

/// [`divergence`](crate::divergence) of `student.hidden student.head^T` from
/// `teacher.hidden teacher.head^T`, without ever writing `[T, V]` logits of either: they exist
/// for a chunk of rows at a time, and backward computes them again.
///
/// Student and teacher may differ in width; rows and vocabulary must agree. Differentiable
/// with respect to the student's hidden states and head; the gradient of one that is not part
/// of a graph is not computed. Chunks are of a fixed size and merged in order, so results do
/// not depend on the number of threads.
///
/// Definition: [`reference::linear_divergence`](crate::reference::linear_divergence).
///
/// # Errors
///
/// As [`divergence`](crate::divergence).
pub fn linear_divergence(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    kind: Divergence,
    temperature: f64,
) -> Result<DivergenceOutput> {
    check_temperature(OP, temperature)?;
    kind.check()?;
    let (rows, vocab) = check_projections(OP, student, teacher)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let op = Op { teacher: Frozen::of(teacher)?, ids, kind, temperature };
    DivergenceOutput::from_columns(&linear_op::apply(student, op)?)
}

struct Op {
    teacher: Frozen,
    ids: Vec<u32>,
    kind: Divergence,
    temperature: f64,
}

impl Op {
    fn rows(&self, width: usize) -> DivergenceRows<'_> {
        let Self { kind, temperature, .. } = *self;
        DivergenceRows { kind, ids: &self.ids, width, temperature }
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

    fn teacher(&self) -> Option<Projection<'_>> {
        Some(self.teacher.projection())
    }

    fn forward<T: Gemm>(&self, logits: &ChunkedLogits<'_, T>) -> (CpuStorage, Shape) {
        let mut out = Columns::<T, STATISTICS>::new(logits.rows);
        logits.for_each(|Chunk { first, vocab, logits, theirs }| {
            self.rows(vocab).forward(&mut out, first, logits, theirs);
        });
        out.into_storage()
    }

    fn backward<T: Gemm>(&self, chunk: Chunk<'_, T>, saved: &[T], upstream: &[T]) {
        let Chunk { first, vocab, logits, theirs } = chunk;
        let (saved, upstream) = (ColumnsView::new(saved), ColumnsView::new(upstream));
        self.rows(vocab).backward(logits, first, None, theirs, saved, upstream);
    }

    fn gpu_forward(&self, gpu: &Gpu, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let ids = self.ids_of(chunk)?;
        chunk.pair(&ids, self.kind.into(), self.temperature)?.forward(gpu)
    }

    fn gpu_backward(
        &self,
        gpu: &Gpu,
        chunk: &gpu::linear::Chunk<'_>,
        saved: &Tensor,
        upstream: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let ids = self.ids_of(chunk)?;
        let rows = chunk.pair(&ids, self.kind.into(), self.temperature)?;
        rows.backward(gpu, saved, upstream, out)
    }
}
