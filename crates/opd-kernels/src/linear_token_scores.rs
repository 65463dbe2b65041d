use candle_core::Tensor;

use crate::{
    Head, HeadGradient, Projection, Result, TokenOptions, TokenScores,
    cpu::{self, by_computed, gemm::Gemm},
    gpu::{self, Gpu},
    linear_op::{gather, record},
    logprob::{device_ids, token_ids},
    projection::{Gradients, Operands, ProjectionGradient, ProjectionView},
    token_scores::Asked,
};

const OP: &str = "linear_token_scores";

/// [`token_scores`](crate::token_scores) of `hidden head^T`, with a bias if the [`Head`] has one,
/// without ever writing the `[T, V]` logits: they exist for a part of rows and vocabulary at a time, and
/// backward computes them again.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, one dtype (f32, f64, bf16 or f16);
/// `ids` is `[T]` (u32). Differentiable with respect to `hidden`, `head` and its bias; the gradient of
/// one that is not part of a graph is not computed. Every sum has one order, whatever the parts and the
/// number of threads.
///
/// Definition: [`reference::linear_token_scores`](crate::reference::linear_token_scores).
///
/// # Errors
///
/// As [`token_scores`](crate::token_scores).
pub fn linear_token_scores<'a>(
    hidden: &'a Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> Result<TokenScores> {
    let (values, found) = of_projection(OP, Projection::new(hidden, head), ids, options)?;
    options.scores(&values, found.as_ref())
}

/// The values `[5 + k, T]`, which carry the graph, and the likeliest ids `[T, found]`, if any are wanted.
pub(crate) fn of_projection(
    op: &'static str,
    student: Projection<'_>,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, vocab) = student.check(op)?;
    options.check(op, rows, vocab)?;
    let operands = Operands::of(student)?;
    if let Some(gpu) = gpu::of(&operands.hidden) {
        let ids = ids.to_device(operands.hidden.device())?;
        let ids = device_ids(&gpu, op, &ids, rows, vocab)?;
        return on_gpu(gpu, op, operands, ids, options);
    }
    let asked = Asked::new(op, token_ids(op, ids, rows, vocab)?, options, vocab)?;
    let sink = student.head.sink(&operands.hidden);
    let hidden = &operands.hidden;
    by_computed!(op, hidden, T => {
        let (value, asked, found) = forward::<T>(op, operands.projection(), asked)?;
        let operands = operands.gathered_by(&sink);
        let backward = move |student: Projection<'_>, saved: &Tensor, upstream: &Tensor| {
            backward::<T>(op, student, &asked, (saved, upstream), &sink)
        };
        Ok((record(op, operands, value, backward)?, found))
    })
}

fn forward<T: Gemm>(
    op: &'static str,
    student: Projection<'_>,
    asked: Asked,
) -> Result<(Tensor, Asked, Option<Tensor>)> {
    let view = ProjectionView::<T>::of(op, student)?;
    let projected = view.projected();
    let (mut scored, mut buffer) = (asked.room::<T>(), Vec::new());
    let further = asked.further_ids();
    for rows in projected.rows_at_once(student.hidden.dims()[0], further) {
        let mut scans = asked.rows().scans(rows.len());
        for part in projected.parts(rows.clone(), further) {
            let logits = projected.part(&mut buffer, &part);
            asked.rows().take_part(&mut scans, &part, logits);
        }
        asked.rows().finish_rows(&mut scored, rows.start, scans);
    }
    asked.finish(scored)
}

fn backward<T: Gemm>(
    op: &'static str,
    student: Projection<'_>,
    asked: &Asked,
    (saved, upstream): (&Tensor, &Tensor),
    sink: &Option<HeadGradient>,
) -> Result<Gradients> {
    let upstream = upstream.contiguous()?;
    let (saved, upstream) = (cpu::view::<T>(op, saved)?, cpu::view::<T>(op, &upstream)?);
    let mut gradient = ProjectionGradient::<T>::wanted(student);
    if sink.is_some() {
        gradient.weight = Some(Vec::new());
    }
    let view = ProjectionView::<T>::of(op, student)?;
    let projected = view.projected();
    let mut buffer = Vec::new();
    let further = asked.further_ids();
    for rows in projected.rows_at_once(student.hidden.dims()[0], further) {
        for part in projected.parts(rows, further) {
            let logits = projected.part(&mut buffer, &part);
            asked.backward(logits, &part, None, (&saved, &upstream));
            gradient.add(&projected, logits, &part);
        }
    }
    gather(sink, gradient.finish(student)?)
}

fn on_gpu(
    gpu: Gpu,
    op: &'static str,
    operands: Operands,
    ids: Tensor,
    options: &TokenOptions<'_>,
) -> Result<(Tensor, Option<Tensor>)> {
    let student = operands.projection();
    let vocab = student.head.weight.dims()[0];
    let asked = gpu::score_rows::Asked::new(&gpu, op, ids, options, vocab)?;
    let (mut values, mut found) = (Vec::new(), Vec::new());
    let read = gpu::linear::Read::of(op, student)?;
    gpu::linear::for_each(&gpu, op, &read, None, |chunk| {
        let (of_chunk, ids) = asked.forward(&gpu, chunk.logits, chunk.rows.start)?;
        values.push(of_chunk);
        found.extend(ids);
        Ok(())
    })?;
    drop(read);
    if values.is_empty() {
        let hidden = student.hidden;
        let dtype = gpu::accumulator(hidden.dtype());
        let (none, ids) =
            asked.forward(&gpu, &Tensor::zeros((0, vocab), dtype, hidden.device())?, 0)?;
        values.push(none);
        found.extend(ids);
    }
    let value = Tensor::cat(&values, 1)?;
    let found = (!found.is_empty()).then(|| Tensor::cat(&found, 0)).transpose()?;
    let asked = asked.with_found(found.as_ref())?;
    let backward = move |student: Projection<'_>, saved: &Tensor, upstream: &Tensor| {
        let (read, upstream) = (gpu::linear::Read::of(op, student)?, upstream.contiguous()?);
        let mut gradient = gpu::Gradient::wanted(&gpu, &read)?;
        gpu::linear::for_each(&gpu, op, &read, None, |chunk| {
            let out = gradient.room(chunk.logits, &chunk.rows)?;
            let first = chunk.rows.start;
            asked.backward(&gpu, chunk.logits, first, (saved, &upstream), &out)?;
            gradient.add(&gpu, op, &out, &chunk.rows)
        })?;
        gradient.finish()
    };
    Ok((record(op, operands, value, backward)?, found))
}
