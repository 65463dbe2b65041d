use std::ops::Range;

use candle_core::Tensor;

use crate::{
    Head, Projection, Result, Softmax, TokenLogprobs,
    cpu::{
        self, by_computed,
        columns::{Columns, ColumnsView},
        gemm::Gemm,
        part::Part,
        projection::{Projected, chunks_of},
        score_rows::ScoreRows,
        token_gradient::Further,
        token_rows::{STATISTICS, TokenRows},
    },
    gpu::{self, Gpu},
    known_gradients::ChunkLosses,
    logprob::token_ids,
    projection::{Gradients, Operands, ProjectionGradient, ProjectionView},
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
    /// `dL/dbias` `[V]`, if `head` has a bias that is part of a graph.
    pub bias_gradient: Option<Tensor>,
}

/// The sum of a loss of each row's own log-prob, log-sum-exp and entropy under `hidden head^T`, with a
/// bias if the [`Head`] has one, with the gradients finished chunk by chunk: three matrix products for
/// each chunk of rows, where [`linear_token_logprobs`](crate::linear_token_logprobs) and its backward
/// take four. On a CPU the first chunk may have as many rows as the head is wide, up to 2,048, if the head has
/// a gradient: logits are held in the memory that this takes afterwards.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, `ids` is `[T]` (u32), `softmax` is a temperature or a
/// [`Softmax`] with a cap. `loss` is called with each chunk of rows, first to last, and what the model
/// says of them (`[n]` each); it returns a scalar that depends on these alone. It must divide by what
/// the whole batch has, not by what the chunk has:
///
/// ```text
/// L = sum_chunks loss(rows, logprobs[rows], lse[rows], entropy[rows])
/// ```
///
/// The gradients of `hidden`, `head` and its bias, of those that are part of a graph, are ready when this
/// returns; backward multiplies them by the gradient of `L`. `L` and the gradients have the values of
/// the general form. Where `loss` gives every row the bits of its gradient, the gradients of `hidden` and of
/// the bias have the bits of the general form; that of `head` has them if all rows are one chunk, for
/// it is the sum of what the chunks give.
/// Rows that are not trained are best left out of `hidden` and `ids`: then no product has them.
///
/// # Errors
///
/// As [`linear_token_logprobs`](crate::linear_token_logprobs), and what `loss` fails with.
pub fn linear_row_loss<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    softmax: impl Into<Softmax>,
    loss: impl FnMut(Range<usize>, &TokenLogprobs) -> candle_core::Result<Tensor>,
) -> Result<RowLoss> {
    let softmax = softmax.into();
    softmax.check(OP)?;
    let student = Projection { hidden, head: head.into() };
    let (rows, vocab) = student.check(OP)?;
    let operands = Operands::of(student)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let mut losses = ChunkLosses::new(loss);
    let (hidden, student) = (&operands.hidden, operands.projection());
    let gradients = match gpu::of(hidden) {
        Some(gpu) => on_gpu(&gpu, student, &ids, softmax, &mut losses)?,
        None => by_computed!(OP, hidden, T => on_cpu::<T, _>(student, &ids, softmax, &mut losses))?,
    };
    let (loss, tokens) = losses.finish(OP, operands, gradients.clone())?;
    let Gradients { hidden, weight, bias } = gradients;
    let (hidden_gradient, head_gradient, bias_gradient) = (hidden, weight, bias);
    Ok(RowLoss { loss, tokens, hidden_gradient, head_gradient, bias_gradient })
}

fn on_cpu<T: Gemm, F>(
    student: Projection<'_>,
    ids: &[u32],
    softmax: Softmax,
    losses: &mut ChunkLosses<F>,
) -> Result<Gradients>
where
    F: FnMut(Range<usize>, &TokenLogprobs) -> candle_core::Result<Tensor>,
{
    let mut gradient = ProjectionGradient::<T>::wanted(student);
    let view = ProjectionView::<T>::of(OP, student)?;
    let projected = view.projected();
    let vocab = projected.vocab;
    let held = if gradient.weight.is_some() { projected.rows_held(ids.len()) } else { 0 };
    if held > 0 {
        let tokens = TokenRows { ids: &ids[..held], width: vocab, softmax, entropy: true };
        with_logits_in_gradient(&projected, tokens, &mut gradient, losses)?;
    }
    let mut buffer = Vec::new();
    for rows in chunks_of(held..ids.len(), vocab) {
        let logits = projected.logits(&mut buffer, rows.clone());
        let ids = &ids[rows.clone()];
        let tokens = TokenRows { ids, width: vocab, softmax, entropy: true };
        let mut columns = Columns::<T, STATISTICS>::new(rows.len());
        tokens.forward(&mut columns, 0, logits);
        let saved = columns.into_tensor()?;
        let upstream = losses.upstream(rows.clone(), &saved)?;
        let (saved, upstream) = (cpu::view::<T>(OP, &saved)?, cpu::view::<T>(OP, &upstream)?);
        let statistics = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
        let of_chunk = Part::of_rows(0..rows.len(), vocab);
        tokens.backward(logits, &of_chunk, None, statistics, Further::NONE);
        gradient.add(&projected, logits, &Part::of_rows(rows, vocab));
    }
    gradient.finish(student)
}

/// The first chunk, whose logits wait in the memory `[V, H]` of the head's gradient: those of a part of the
/// vocabulary, ids `s..e` of `n` rows, at `V H - n (V - s) .. V H - n (V - e)`. Its gradient goes to `s H .. e H`
/// when they have been read, and that ends where the logits of the next part begin or before, for `n <= H`:
///
/// ```text
/// e H  <=  V H - n (V - e)    <=>    n (V - e)  <=  H (V - e)
/// ```
fn with_logits_in_gradient<T: Gemm, F>(
    projected: &Projected<'_, T>,
    tokens: TokenRows<'_>,
    gradient: &mut ProjectionGradient<T>,
    losses: &mut ChunkLosses<F>,
) -> Result<()>
where
    F: FnMut(Range<usize>, &TokenLogprobs) -> candle_core::Result<Tensor>,
{
    let (n, vocab) = (tokens.ids.len(), projected.vocab);
    assert!(gradient.weight.is_some() && n <= projected.width, "no room for logits");
    let all = vocab * projected.width;
    let place = |part: &Part| all - n * (vocab - part.ids.start)..all - n * (vocab - part.ids.end);
    let memory = gradient.weight.get_or_insert_default();
    memory.resize(all, T::ZERO);
    let score = ScoreRows { tokens, named: &[], n_named: 0, top: 0 };
    let (mut scored, mut scans) = (score.room::<T>(), score.scans(n));
    for part in projected.parts(0..n, 0) {
        let logits = &mut memory[place(&part)];
        projected.set_part(logits, &part);
        score.take_part(&mut scans, &part, logits);
    }
    score.finish_rows(&mut scored, 0, scans);
    let (saved, _) = scored.finish()?;
    let upstream = losses.upstream(0..n, &saved)?;
    let (saved, upstream) = (cpu::view::<T>(OP, &saved)?, cpu::view::<T>(OP, &upstream)?);
    let statistics = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
    let mut dlogits = Vec::new();
    for part in projected.parts(0..n, 0) {
        let memory = gradient.weight.get_or_insert_default();
        let logits = &memory[place(&part)];
        dlogits.resize(logits.len(), T::ZERO);
        tokens.backward(&mut dlogits, &part, Some(logits), statistics, Further::NONE);
        gradient.add(projected, &dlogits, &part);
    }
    Ok(())
}

fn on_gpu<F>(
    gpu: &Gpu,
    student: Projection<'_>,
    ids: &[u32],
    softmax: Softmax,
    losses: &mut ChunkLosses<F>,
) -> Result<Gradients>
where
    F: FnMut(Range<usize>, &TokenLogprobs) -> candle_core::Result<Tensor>,
{
    let read = gpu::linear::Read::of(OP, student)?;
    let mut gradient = gpu::Gradient::wanted(gpu, &read)?;
    // At once: a copy to the device may wait for what was launched before it.
    let all_ids = Tensor::from_slice(ids, ids.len(), student.hidden.device())?;
    gpu::linear::for_each(gpu, OP, &read, None, |chunk| {
        let ids = all_ids.narrow(0, chunk.rows.start, chunk.rows.len())?;
        let place = (chunk.logits, &ids);
        let (saved, _) = gpu::score_rows::forward(gpu, OP, place, (None, 0), softmax, true)?;
        let upstream = losses.upstream(chunk.rows.clone(), &saved)?;
        let out = gradient.room(chunk.logits, &chunk.rows)?;
        let statistics = (&saved, &upstream);
        gpu::score_rows::backward(gpu, OP, place, None, statistics, &out, softmax)?;
        gradient.add(gpu, OP, &out, &chunk.rows)
    })?;
    gradient.finish()
}
