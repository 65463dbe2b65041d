use std::ops::Range;

use candle_core::Tensor;

use crate::{
    Divergence, DivergenceOutput, Head, Projection, Result,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView},
        divergence_rows::{DivergenceRows, STATISTICS},
        gemm::Gemm,
        projection::{Projected, chunks},
    },
    divergence::{check_same_dtype, check_teacher},
    gpu::{self, Gpu, Recorded2},
    linear_op::Frozen,
    logprob::{check_temperature, token_ids},
    projection::{HeadValues, ProjectionGradient},
    row_divergence_loss::loss_of_columns,
};

const OP: &str = "linear_divergence_loss";

/// A loss over rows of two models, and what [`linear_divergence_loss`] computes beside it.
#[derive(Clone, Debug)]
pub struct LinearDivergenceLoss {
    /// The sum of the chunks' losses, a scalar; carries the graph.
    pub loss: Tensor,
    /// What the two models say of each token; without a graph.
    pub tokens: DivergenceOutput,
    /// `dL/dhidden` of the student `[T, H]`, if its hidden states are part of a graph.
    pub hidden_gradient: Option<Tensor>,
    /// `dL/dhead` of the student `[V, H]`, if its head is part of a graph.
    pub head_gradient: Option<Tensor>,
}

/// The sum of a loss of each row's own divergence, entropy and log-prob under the heads of student and
/// teacher, with the gradients finished chunk by chunk: three matrix products of the student's and one of the
/// teacher's for each chunk of rows, where [`linear_divergence`](crate::linear_divergence) and its backward
/// take four and two.
///
/// `loss` is called with each chunk of rows, first to last, and what
/// [`divergence`](crate::divergence) says of them (`[n]` each); it returns a scalar that depends on these
/// alone. It must divide by what the whole batch has, not by what the chunk has:
///
/// ```text
/// L = sum_chunks loss(rows, divergence[rows], student_entropy[rows], student_logprobs[rows])
/// ```
///
/// The gradients of the student's hidden states and head, of those that are part of a graph, are ready when
/// this returns; backward multiplies them by the gradient of `L`. `L` and the gradients have the values of
/// the general form. Rows that are not trained are best left out: then no product has them.
///
/// # Errors
///
/// As [`linear_divergence`](crate::linear_divergence), and what `loss` fails with.
pub fn linear_divergence_loss(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    kind: Divergence,
    temperature: f64,
    loss: impl FnMut(Range<usize>, &DivergenceOutput) -> candle_core::Result<Tensor>,
) -> Result<LinearDivergenceLoss> {
    check_temperature(OP, temperature)?;
    kind.check()?;
    let (rows, vocab) = student.check(OP)?;
    check_teacher(OP, (rows, vocab), teacher.check(OP)?)?;
    check_same_dtype(OP, student.hidden, teacher.hidden)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let Head { weight, products, .. } = student.head;
    let (hidden, head) = (student.hidden.contiguous()?, weight.contiguous()?);
    let student = Projection { hidden: &hidden, head: Head::new(&head, products) };
    let frozen = Frozen::of(teacher)?;
    let teacher = frozen.projection();
    let rows = DivergenceRows { kind, ids: &ids, width: vocab, temperature };
    let mut chunks = Chunks { loss, parts: Vec::new(), columns: Vec::new() };
    let (dhidden, dhead) = match gpu::of(&hidden) {
        Some(gpu) => chunks.on_gpu(&gpu, (student, teacher), rows)?,
        None => by_dtype!(OP, hidden, T => chunks.on_cpu::<T>((student, teacher), rows))?,
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
    let tokens = DivergenceOutput::from_columns(&columns)?;
    Ok(LinearDivergenceLoss { loss, tokens, hidden_gradient, head_gradient })
}

struct Chunks<F> {
    loss: F,
    parts: Vec<Tensor>,
    columns: Vec<Tensor>,
}

impl<F: FnMut(Range<usize>, &DivergenceOutput) -> candle_core::Result<Tensor>> Chunks<F> {
    /// The gradient `[10, n]` of the loss by the statistics `[10, n]` of some rows.
    fn upstream(&mut self, rows: Range<usize>, columns: Tensor) -> Result<Tensor> {
        let (part, upstream) = loss_of_columns(&columns, |tokens| (self.loss)(rows, tokens))?;
        self.parts.push(part);
        self.columns.push(columns);
        Ok(upstream)
    }

    fn on_cpu<T: Gemm>(
        &mut self,
        (student, teacher): (Projection<'_>, Projection<'_>),
        all: DivergenceRows<'_>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (hidden, head) = (student.hidden, student.head.weight);
        let mut gradient = ProjectionGradient::<T>::wanted(hidden, head);
        let ours = (cpu::view::<T>(OP, hidden)?, HeadValues::<T>::of(OP, head)?);
        let theirs =
            (cpu::view::<T>(OP, teacher.hidden)?, HeadValues::<T>::of(OP, teacher.head.weight)?);
        fn projected<'a, T: Gemm>(
            of: Projection<'_>,
            (states, head): &'a (cpu::View<'_, T>, HeadValues<'_, T>),
        ) -> Projected<'a, T> {
            let dims = of.head.weight.dims();
            Projected::new(states, (head.rows(), of.head.products), dims[1], dims[0])
        }
        let (ours, theirs) = (projected(student, &ours), projected(teacher, &theirs));
        let (mut our_logits, mut their_logits) = (Vec::new(), Vec::new());
        for rows in chunks(all.ids.len(), all.width) {
            let logits = ours.logits(&mut our_logits, rows.clone());
            let their_logits = &*theirs.logits(&mut their_logits, rows.clone());
            let of_chunk = DivergenceRows { ids: &all.ids[rows.clone()], ..all };
            let mut columns = Columns::<T, STATISTICS>::new(rows.len());
            of_chunk.forward(&mut columns, 0, logits, their_logits);
            let saved = columns.into_tensor()?;
            let upstream = self.upstream(rows.clone(), saved.clone())?;
            let (saved, upstream) = (cpu::view::<T>(OP, &saved)?, cpu::view::<T>(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            of_chunk.backward(logits, 0, None, their_logits, saved, upstream);
            gradient.add(&ours, logits, rows);
        }
        gradient.finish(hidden, head)
    }

    fn on_gpu(
        &mut self,
        gpu: &Gpu,
        (student, teacher): (Projection<'_>, Projection<'_>),
        all: DivergenceRows<'_>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (hidden, head) = (student.hidden, student.head.on_gpu(OP)?);
        let mut gradient = gpu::Gradient::wanted(gpu, hidden, head)?;
        // At once: a copy to the device may wait for what was launched before it.
        let all_ids = Tensor::from_slice(all.ids, all.ids.len(), hidden.device())?;
        gpu::linear::for_each(gpu, OP, student, Some(teacher), |chunk| {
            let ids = all_ids.narrow(0, chunk.rows.start, chunk.rows.len())?;
            let rows = chunk.pair(&ids, all.kind.into(), all.temperature)?;
            let saved = rows.forward(gpu)?;
            let upstream = self.upstream(chunk.rows.clone(), saved.clone())?;
            let out = gradient.room(chunk.logits, hidden, &chunk.rows)?;
            rows.backward(gpu, &saved, &upstream, &out)?;
            gradient.add(gpu, OP, student, &out, &chunk.rows)
        })?;
        gradient.finish(head)
    }

    /// The sum of the losses, and the statistics `[10, T]`.
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
