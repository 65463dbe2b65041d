use std::ops::Range;

use candle_core::Tensor;

use crate::{
    Divergence, DivergenceOutput, Projection, Result,
    cpu::{
        self, by_computed,
        columns::{Columns, ColumnsView},
        divergence_rows::{DivergenceRows, STATISTICS},
        gemm::Gemm,
        part::Part,
        projection::chunks,
    },
    divergence::check_projections,
    gpu::{self, Gpu},
    known_gradients::ChunkLosses,
    linear_op::Frozen,
    logprob::{check_temperature, token_ids},
    projection::{Gradients, Operands, ProjectionGradient, ProjectionView},
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
    let (rows, vocab) = check_projections(OP, student, teacher)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let (operands, frozen) = (Operands::of(student)?, Frozen::of(teacher)?);
    let (student, teacher) = (operands.projection(), frozen.projection());
    let rows = DivergenceRows { kind, ids: &ids, width: vocab, temperature };
    let (mut losses, hidden) = (ChunkLosses::new(loss), student.hidden);
    let gradients = match gpu::of(hidden) {
        Some(gpu) => on_gpu(&gpu, (student, teacher), rows, &mut losses)?,
        None => by_computed!(OP, hidden, T => {
            on_cpu::<T, _>((student, teacher), rows, &mut losses)
        })?,
    };
    let (loss, tokens) = losses.finish(OP, operands, gradients.clone())?;
    let Gradients { hidden, weight, bias } = gradients;
    let (hidden_gradient, head_gradient, bias_gradient) = (hidden, weight, bias);
    Ok(LinearDivergenceLoss { loss, tokens, hidden_gradient, head_gradient, bias_gradient })
}

fn on_cpu<T: Gemm, F>(
    (student, teacher): (Projection<'_>, Projection<'_>),
    all: DivergenceRows<'_>,
    losses: &mut ChunkLosses<F>,
) -> Result<Gradients>
where
    F: FnMut(Range<usize>, &DivergenceOutput) -> candle_core::Result<Tensor>,
{
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
        let upstream = losses.upstream(rows.clone(), &saved)?;
        let (saved, upstream) = (cpu::view::<T>(OP, &saved)?, cpu::view::<T>(OP, &upstream)?);
        let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
        of_chunk.backward(logits, 0, None, their_logits, saved, upstream);
        gradient.add(&ours, logits, &Part::of_rows(rows, ours.vocab));
    }
    gradient.finish(student)
}

fn on_gpu<F>(
    gpu: &Gpu,
    (student, teacher): (Projection<'_>, Projection<'_>),
    all: DivergenceRows<'_>,
    losses: &mut ChunkLosses<F>,
) -> Result<Gradients>
where
    F: FnMut(Range<usize>, &DivergenceOutput) -> candle_core::Result<Tensor>,
{
    let (ours, theirs) = (gpu::linear::Read::of(OP, student)?, gpu::linear::Read::of(OP, teacher)?);
    let mut gradient = gpu::Gradient::wanted(gpu, &ours)?;
    // At once: a copy to the device may wait for what was launched before it.
    let all_ids = Tensor::from_slice(all.ids, all.ids.len(), student.hidden.device())?;
    gpu::linear::for_each(gpu, OP, &ours, Some(&theirs), |chunk| {
        let ids = all_ids.narrow(0, chunk.rows.start, chunk.rows.len())?;
        let rows = chunk.pair(&ids, all.kind.into(), all.temperature)?;
        let saved = rows.forward(gpu)?;
        let upstream = losses.upstream(chunk.rows.clone(), &saved)?;
        let out = gradient.room(chunk.logits, &chunk.rows)?;
        rows.backward(gpu, &saved, &upstream, &out)?;
        gradient.add(gpu, OP, &out, &chunk.rows)
    })?;
    gradient.finish()
}
