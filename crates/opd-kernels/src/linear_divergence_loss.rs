use std::ops::Range;

use candle_core::Tensor;

use crate::{
    Divergence, DivergenceOutput, Projection, Result,
    cpu::{
        self, by_computed,
        columns::{Columns, ColumnsView},
        divergence_rows::{DivergenceRows, STATISTICS},
        gemm::Gemm,
        projection::chunks,
    },
    divergence::{check_same_dtype, check_teacher},
    gpu::{self, Gpu},
    linear_op::{Frozen, record},
    logprob::{check_temperature, token_ids},
    projection::{Gradients, Operands, ProjectionGradient, ProjectionView},
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
    /// `dL/dbias` of the student `[V]`, if its head has a bias that is part of a graph.
    pub bias_gradient: Option<Tensor>,
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
    let (operands, frozen) = (Operands::of(student)?, Frozen::of(teacher)?);
    let (student, teacher) = (operands.projection(), frozen.projection());
    let rows = DivergenceRows { kind, ids: &ids, width: vocab, temperature };
    let mut chunks = Chunks { loss, parts: Vec::new(), columns: Vec::new() };
    let hidden = student.hidden;
    let gradients = match gpu::of(hidden) {
        Some(gpu) => chunks.on_gpu(&gpu, (student, teacher), rows)?,
        None => by_computed!(OP, hidden, T => chunks.on_cpu::<T>((student, teacher), rows))?,
    };
    let (value, columns) = chunks.finish(hidden)?;
    let ready = gradients.clone();
    let backward = move |_: Projection<'_>, _: &Tensor, upstream: &Tensor| ready.scaled(upstream);
    let loss = record(OP, operands, value, backward)?;
    let tokens = DivergenceOutput::from_columns(&columns)?;
    let Gradients { hidden, weight, bias } = gradients;
    let (hidden_gradient, head_gradient, bias_gradient) = (hidden, weight, bias);
    Ok(LinearDivergenceLoss { loss, tokens, hidden_gradient, head_gradient, bias_gradient })
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
    ) -> Result<Gradients> {
        let mut gradient = ProjectionGradient::<T>::wanted(student);
        let ours = ProjectionView::<T>::of(OP, student)?;
        let theirs = ProjectionView::<T>::of(OP, teacher)?;
        let (ours, theirs) = (ours.projected(), theirs.projected());
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
        gradient.finish(student)
    }

    fn on_gpu(
        &mut self,
        gpu: &Gpu,
        (student, teacher): (Projection<'_>, Projection<'_>),
        all: DivergenceRows<'_>,
    ) -> Result<Gradients> {
        let hidden = student.hidden;
        let mut gradient = gpu::Gradient::wanted(gpu, OP, student)?;
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
        gradient.finish(hidden)
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
