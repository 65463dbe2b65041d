use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor, backend::BackendStorage};

use crate::{
    Divergence, DivergenceOutput, Projection, Result,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView, argument},
        divergence_rows::{DivergenceRows, STATISTICS},
        projection::{Projected, chunks},
    },
    divergence::{check_same_dtype, check_teacher},
    logprob::{check_temperature, token_ids},
    projection::ProjectionGradient,
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
    let (rows, vocab) = student.check(OP)?;
    check_teacher(OP, (rows, vocab), teacher.check(OP)?)?;
    check_same_dtype(OP, student.hidden, teacher.hidden)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let op = Op {
        teacher_hidden: teacher.hidden.detach().contiguous()?,
        teacher_head: teacher.head.detach().contiguous()?,
        ids,
        kind,
        temperature,
    };
    let (hidden, head) = (student.hidden.contiguous()?, student.head.contiguous()?);
    DivergenceOutput::from_columns(&hidden.apply_op2(&head, op)?)
}

struct Op {
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    ids: Vec<u32>,
    kind: Divergence,
    temperature: f64,
}

impl Op {
    fn rows(&self, width: usize) -> DivergenceRows<'_> {
        let Self { kind, temperature, .. } = *self;
        DivergenceRows { kind, ids: &self.ids, width, temperature }
    }

    fn forward(
        &self,
        hidden: (&CpuStorage, &Layout),
        head: (&CpuStorage, &Layout),
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = hidden.1.shape().dims2()?;
        let (vocab, teacher_width) = self.teacher_head.dims2()?;
        let storage = hidden.0;
        by_dtype!(OP, storage, T => {
            let hidden = argument::<T>(OP, hidden.0, hidden.1)?;
            let head = argument::<T>(OP, head.0, head.1)?;
            let student = Projected { hidden, head, width, vocab };
            let hidden = cpu::view::<T>(OP, &self.teacher_hidden)?;
            let head = cpu::view::<T>(OP, &self.teacher_head)?;
            let teacher = Projected { hidden: &hidden, head: &head, width: teacher_width, vocab };
            let mut out = Columns::<T, STATISTICS>::new(rows);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for chunk in chunks(rows, vocab) {
                let ours = student.logits(&mut ours, chunk.clone());
                let theirs = teacher.logits(&mut theirs, chunk.clone());
                self.rows(vocab).forward(&mut out, chunk.start, ours, theirs);
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
        let (vocab, teacher_width) = self.teacher_head.dims2()?;
        let upstream = upstream.contiguous()?;
        by_dtype!(OP, hidden, T => {
            let mut gradient = ProjectionGradient::<T>::wanted(hidden, head);
            let (hidden_view, head_view) = (cpu::view::<T>(OP, hidden)?, cpu::view::<T>(OP, head)?);
            let student = Projected { hidden: &hidden_view, head: &head_view, width, vocab };
            let their_hidden = cpu::view::<T>(OP, &self.teacher_hidden)?;
            let their_head = cpu::view::<T>(OP, &self.teacher_head)?;
            let teacher = Projected {
                hidden: &their_hidden,
                head: &their_head,
                width: teacher_width,
                vocab,
            };
            let (saved, upstream) = (cpu::view::<T>(OP, saved)?, cpu::view::<T>(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for chunk in chunks(rows, vocab) {
                let ours = student.logits(&mut ours, chunk.clone());
                let theirs = teacher.logits(&mut theirs, chunk.clone());
                self.rows(vocab).backward(ours, chunk.start, None, theirs, saved, upstream);
                gradient.add(&student, ours, chunk);
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
